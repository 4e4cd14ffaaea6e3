"""An agent in a plain script: it answers a question about the text that it reads, and says by its exit code how it ended.

Run: AGENTKIT_API_KEY=... python examples/embedding/script.py "What is this about?" < notes.txt
"""

import sys

from agentkit import Agent, AgentError, Limits

agent = Agent(instructions="Answer from the text alone. Be brief.", limits=Limits(seconds=60, cost=0.05))


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: script.py QUESTION < TEXT", file=sys.stderr)
        return 2
    try:
        with agent.stream_text_sync(f"{sys.argv[1]}\n\n{sys.stdin.read()}") as texts:
            for text in texts:
                print(text, end="", flush=True)
    except AgentError as error:  # no key, no connection, a refusal
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the run is cancelled
        return 130
    print()
    if texts.result.stop_reason != "answer":
        print(f"stopped: {texts.result.stop_reason}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
