import sys

from agentkit import Agent, Image

print(Agent("deepseek-flash").run_sync(["What is this?", Image.from_path(sys.argv[1])]).output)
