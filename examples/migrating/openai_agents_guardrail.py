"""OpenAI Agents SDK: `@input_guardrail` with an agent that judges, and a tripwire. Here the run ends as a result."""

from agentkit import Agent, guardrail

judge = Agent(instructions="Does this ask for a diagnosis, which only a doctor may give?", output_type=bool)


@guardrail("input")
async def no_diagnosis(text: str) -> str | None:
    return "only a doctor may say that" if (await judge.run(text)).output else None


pharmacy = Agent(instructions="You answer questions about medicines.", middleware=[no_diagnosis])

for question in ("May I take it with milk?", "What is wrong with my knee?"):
    result = pharmacy.run_sync(question)
    print(result.output if result.stop_reason == "answer" else result.stop_reason)
