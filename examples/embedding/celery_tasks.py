"""An agent in a Celery task. A task whose worker was killed is delivered again, and its run goes on.

Run: AGENTKIT_API_KEY=... celery --workdir examples/embedding -A celery_tasks worker
"""

import os
from pathlib import Path

from celery import Celery, Task

from agentkit import Agent, RunBusy, RunExists, tool
from agentkit.store import open_store

folder = Path(os.environ.get("SHOP_FOLDER", "celery")).absolute()
queue = folder / "queue"
queue.mkdir(parents=True, exist_ok=True)

# messages and results are files, so this needs no server; in production, name your broker
app = Celery("shop", broker="filesystem://", backend=f"file://{folder}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": queue,
        "data_folder_out": queue,
        "control_folder": queue,
        "polling_interval": 0.1,
    },
    task_acks_late=True,  # a task that did not end is delivered again
    task_reject_on_worker_lost=True,
)
store = open_store(str(folder / "runs.db"), lease=5)


@tool(idempotent=True)
def reserve(item: str, pieces: int) -> str:
    """Reserve pieces of an item."""
    (folder / f"reserved-{item}").write_text(str(pieces))
    return f"reserved {pieces} of {item}"


agent = Agent(instructions="You work in the warehouse of a shop.", tools=[reserve])


@app.task(bind=True, autoretry_for=(RunBusy,), default_retry_delay=2, max_retries=10)
def work(self: Task, order: str) -> str:
    run_id = self.request.id
    try:
        result = agent.run_sync(order, run_id=run_id, store=store)
    except RunExists:  # a worker began it and was killed
        result = agent.resume_sync(run_id, store=store)
    return result.output
