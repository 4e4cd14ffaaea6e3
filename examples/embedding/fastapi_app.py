"""An agent in a FastAPI app: an answer at once, a stream of text, and a stream of events.

Run: AGENTKIT_API_KEY=... uvicorn --app-dir examples/embedding fastapi_app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from agentkit import Agent, ModelError, tool
from agentkit.web import sse


@tool(read_only=True)
async def stock(item: str) -> int:
    """How many pieces of an item are in stock."""
    return {"chair": 12, "table": 3}.get(item, 0)


agent = Agent(instructions="You help the customers of a furniture shop.", tools=[stock])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with agent:  # its connections are closed with the app
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(question: str) -> dict[str, str]:
    try:
        result = await agent.run(question)
    except ModelError as error:  # the model's server is down, or refuses
        raise HTTPException(502, "the model does not answer") from error
    return {"answer": result.output, "stop_reason": result.stop_reason}


@app.get("/text")
async def text(question: str) -> StreamingResponse:
    return StreamingResponse(agent.stream_text(question), media_type="text/plain")


@app.get("/events")
async def events(question: str) -> StreamingResponse:
    return StreamingResponse(sse(agent.stream(question)), media_type="text/event-stream")
