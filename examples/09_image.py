"""A question about an image. The model must be one that sees; a text model is a clear error.

Run: AGENTKIT_API_KEY=... python examples/09_image.py photo.jpg
"""

import sys

from agentkit import Agent, ChatModel, Image

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    agent = Agent(ChatModel("deepseek-flash"))
    result = agent.run_sync(["What is in this picture?", Image.from_path(sys.argv[1])])
    print(result.output)
