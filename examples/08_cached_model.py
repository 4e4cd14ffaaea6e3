"""A model wrapper: a request that was answered before is answered from a cache.

Run: AGENTKIT_API_KEY=... python examples/08_cached_model.py
"""

from dataclasses import replace

from agentkit import Agent, ChatModel, Model, ModelReply, ModelRequest, ModelWrapper, TextDelta, Usage
from agentkit.model import DeltaSink


class Cached(ModelWrapper):
    """Keeps replies in memory. A reply from the cache costs nothing and has no tokens."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.replies: dict[str, ModelReply] = {}

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The reply to this very request: the same messages, tools, tool choice and settings."""
        key = repr(request)
        if key not in self.replies:
            self.replies[key] = await self.model.reply(request, on_delta)
            return self.replies[key]
        known = self.replies[key]
        if on_delta:
            await on_delta(TextDelta(known.message.text))
        return replace(known, usage=Usage(), cost=0.0, waited=0.0)


if __name__ == "__main__":
    agent = Agent(Cached(ChatModel()), instructions="You answer in one sentence.")
    for _ in range(2):
        result = agent.run_sync("Why is the sky blue?")
        print(f"{result.output} ({result.usage.requests} requests, {result.usage.total_tokens} tokens)")
