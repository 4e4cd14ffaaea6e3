"""One agent over every line of a file, eight at a time, with a progress bar. A failed line does not stop the others.

Run: AGENTKIT_API_KEY=... python examples/16_map_a_file.py reviews.txt moods.jsonl
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Literal

from agentkit import Agent

agent = Agent(instructions="What is the mood of this review?", output_type=Literal["happy", "neutral", "angry"])

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    reviews = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    items = agent.map_sync(reviews, concurrency=8, out=sys.argv[2], progress=True)  # a line of JSON as each one ends

    print(dict(Counter(item.output for item in items if not item.error)))
    for item in items:
        if item.error:
            print(f"line {item.index + 1}: {item.error}")
