"""All events of a run as server-sent events, which a web page reads with EventSource: text, tool calls, results.

Run: pip install fastapi uvicorn; AGENTKIT_API_KEY=... uvicorn --app-dir examples 17_server_sent_events:app
"""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from agentkit import Agent, tool
from agentkit.web import sse

PAGE = """<input id="q" placeholder="Where is A-17?"><pre id="out"></pre><script>
q.onchange = () => {
  out.textContent = ""
  const events = new EventSource("/events?question=" + encodeURIComponent(q.value))
  events.addEventListener("TextDelta", event => out.textContent += JSON.parse(event.data).text)
  events.addEventListener("ToolStarted", event => out.textContent += "(" + JSON.parse(event.data).call.name + ")\\n")
  events.addEventListener("RunFinished", () => events.close())
  events.onerror = () => events.close()
}</script>"""


@tool(read_only=True)
def find_order(number: str) -> str:
    """State of an order, such as A-17."""
    return "shipped on Monday" if number == "A-17" else "not known"


agent, app = Agent(tools=[find_order]), FastAPI()


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/events")
async def events(question: str) -> StreamingResponse:  # a client that leaves ends the run
    return StreamingResponse(sse(agent.stream(question)), media_type="text/event-stream")
