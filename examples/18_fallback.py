"""A second server answers when the first one fails. Limits bound each run.

Run: MAIN_URL=https://... MAIN_KEY=... SPARE_URL=https://... SPARE_KEY=... python examples/18_fallback.py "Why is the sky blue?"
"""

import logging
import os
import sys

from agentkit import Agent, ChatModel, Fallback, Limits, Retry

logging.basicConfig(format="%(message)s")
logging.getLogger("agentkit").setLevel(logging.INFO)  # retries, and that the next model is asked

main = ChatModel("deepseek-v4-flash", base_url=os.environ["MAIN_URL"], api_key=os.environ["MAIN_KEY"], timeout=30)
spare = ChatModel("deepseek-v4-flash", base_url=os.environ["SPARE_URL"], api_key=os.environ["SPARE_KEY"])

agent = Agent(
    Fallback(main, spare, retry=Retry(attempts=2, first=0.1)),  # each server is asked twice
    limits=Limits(steps=5, output_tokens=4_000, seconds=60, on_limit="answer"),
)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    result = agent.run_sync(sys.argv[1])
    print(result.output)
    print(f"{result.stop_reason}: {result.usage.requests} requests, {result.usage.total_tokens} tokens")
