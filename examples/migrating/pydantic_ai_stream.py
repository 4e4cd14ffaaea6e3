"""Pydantic AI: `run_stream()` with `stream_text(delta=True)`, and `stream_output()` for an answer that is being written."""

from agentkit import Agent, PartialOutput

for text in Agent().stream_text_sync("Why is the sea salty?"):
    print(text, end="|", flush=True)
print()

packer = Agent(instructions="What should I pack?", output_type=list[str])
for event in packer.stream_sync("Two days in Oslo"):
    if isinstance(event, PartialOutput):
        print(event.value)
