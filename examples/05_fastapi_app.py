"""An agent inside a FastAPI app: one agent for all requests, an answer at once or as a stream.
Run: pip install fastapi uvicorn; AGENTKIT_API_KEY=... uvicorn --app-dir examples 05_fastapi_app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from agentkit import Agent, TextDelta, tool


@tool(read_only=True)
def stock(item: str) -> int:
    """How many pieces of an item are in stock."""
    return {"chair": 12, "table": 3}.get(item, 0)


agent = Agent(instructions="You help the customers of a furniture shop.", tools=[stock])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with agent:  # closed with the app
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(question: str) -> dict[str, str]:
    return {"answer": (await agent.run(question)).output}


@app.get("/stream")
async def stream(question: str) -> StreamingResponse:  # a client that leaves ends the run
    texts = (event.text async for event in agent.stream(question) if isinstance(event, TextDelta))
    return StreamingResponse(texts, media_type="text/plain")
