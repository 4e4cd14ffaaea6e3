"""The commands on stored runs, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from .exits import reported

__all__ = ["add_store_commands"]

Db = Annotated[
    str,
    typer.Option(
        "--db", metavar="URL", envvar="AGENTKIT_DB", help="The store: a path, sqlite:///ABSOLUTE/PATH.db or postgresql://..."
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
CallId = Annotated[str, typer.Argument(metavar="CALL", help="The call's id, as `show` prints it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
QueueName = Annotated[str, typer.Option("--queue", "-q", metavar="Q", help="The queue.")]
AgentName = Annotated[str, typer.Option("--agent", "-a", metavar="MODULE:ATTR", help="The agent, as workers import it.")]


def submit(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to do; - reads it from the standard input.")],
    *,
    db: Db,
    agent: AgentName,
    run_id: Annotated[str | None, typer.Option(metavar="ID", help="The run's id; the same id twice is one run.")] = None,
    queue: QueueName = "default",
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="S", help="The conversation it goes on with.")
    ] = None,
    deps_json: Annotated[str | None, typer.Option(metavar="JSON", help="What the worker makes the run's deps of.")] = None,
    priority: Annotated[int, typer.Option(metavar="N", help="A higher one is driven sooner.")] = 0,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Not before this time: ISO 8601 (without a zone: this machine's), or seconds since 1970."
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Queue a run for a worker, and print its id."""
    with reported(debug=debug):
        from .stored import submit_run

        submit_run(
            db, task, agent=agent, run_id=run_id, queue=queue, session=session, deps=deps_json, priority=priority, at=at,
            as_json=as_json,
        )  # fmt: skip


def worker(
    *,
    db: Db,
    queue: QueueName = "default",
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, metavar="N", help="Runs at a time.")] = 4,
    lease: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="After so long without it, others take its runs.")
    ] = 30.0,
    deps: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Makes a run's deps of its id and its JSON.")
    ] = None,
    grace: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For calls in flight when it ends.")] = 10.0,
    engine: Annotated[str, typer.Option(metavar="NAME", help="own, or dbos for DBOS's queues on Postgres.")] = "own",
    total_concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With dbos: runs at a time, of all workers of the queue together.")
    ] = None,
    starts_per_minute: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With dbos: drives that begin in a minute, of all workers together.")
    ] = None,
    allow_changed: Annotated[
        bool, typer.Option("--allow-changed", help="Go on with runs that began with another form of their agent.")
    ] = False,
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when nothing is due or driven; code 1 if a run could not be driven.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Drive queued runs, and take over those whose worker is gone. SIGTERM hands its runs back."""
    with reported(debug=debug):
        from .exits import Exit
        from .serve_worker import serve_worker

        code: Exit = serve_worker(
            db, queue=queue, concurrency=concurrency, lease=lease, deps=deps, grace=grace, engine=engine,
            total_concurrency=total_concurrency, starts_per_minute=starts_per_minute, allow_changed=allow_changed,
            until_idle=exit_when_idle,
        )  # fmt: skip
    raise typer.Exit(code)


def runs(
    *,
    db: Db,
    status: Annotated[
        str | None, typer.Option(help="Only these: queued, running, paused, finished, failed, cancelled.")
    ] = None,
    children: Annotated[bool, typer.Option("--children", help="Child runs too.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Only the newest N.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, the newest first."""
    with reported(debug=debug):
        from .show_stored import list_runs

        list_runs(db, status=status, children=children, limit=limit, as_json=as_json)


def show(
    run_id: RunId,
    *,
    db: Db,
    events: Annotated[bool, typer.Option("--events", help="Its events too.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a run, and the calls that it waits for."""
    with reported(debug=debug):
        from .show_stored import show_run

        show_run(db, run_id, events=events, as_json=as_json)


def events(
    run_id: RunId,
    *,
    db: Db,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    after: Annotated[int, typer.Option(metavar="N", help="Only those after number N, counted from 0.")] = -1,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the events of a run."""
    with reported(debug=debug):
        from .show_stored import print_events

        print_events(db, run_id, after=after, follow=follow, as_json=as_json)


def approve(
    run_id: RunId,
    call_id: CallId,
    *,
    db: Db,
    deny: Annotated[str | None, typer.Option(metavar="WHY", help="Refuse the call; the model is told why.")] = None,
    edit: Annotated[str | None, typer.Option(metavar="JSON", help="Run it with these arguments.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who answers, for the record.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Approve a call that waits, or refuse it. The first answer counts."""
    with reported(debug=debug):
        from .stored import approve_call

        approve_call(db, run_id, call_id, deny=deny, edit=edit, by=by, as_json=as_json)


def answer(
    run_id: RunId,
    call_id: CallId,
    value: Annotated[str, typer.Argument(metavar="JSON", help="The result.")],
    *,
    db: Db,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Give the result of a call of an outside tool. The first answer counts."""
    with reported(debug=debug):
        from .stored import answer_call

        answer_call(db, run_id, call_id, value, as_json=as_json)


def cancel(run_id: RunId, *, db: Db, as_json: Json = False, debug: Debug = False) -> None:
    """Cancel a run."""
    with reported(debug=debug):
        from .stored import cancel_run

        cancel_run(db, run_id, as_json=as_json)


def fork(
    run_id: RunId,
    *,
    db: Db,
    at: Annotated[int, typer.Option(metavar="N", help="Keep the events before number N, counted from 0.")],
    new_id: Annotated[str | None, typer.Option(metavar="ID", help="The id of the new run.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Begin a new run with the first events of another one, and print its id."""
    with reported(debug=debug):
        from .stored import fork_run

        fork_run(db, run_id, at=at, new_id=new_id, as_json=as_json)


def prune(
    *,
    db: Db,
    older_than: Annotated[str, typer.Option(metavar="TIME", help="Such as 30d, 12h, 90m or 45s.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete the runs that ended longer ago. Conversations stay."""
    with reported(debug=debug):
        from .stored import prune_runs

        prune_runs(db, older_than, as_json=as_json)


def export(
    run_id: RunId,
    *,
    db: Db,
    to: Annotated[str, typer.Option(metavar="FILE", help="The file; - is the standard output.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the events of a run to a file, such as for a test with `agentkit.testing.replay`."""
    with reported(debug=debug):
        from .stored import export_run

        export_run(db, run_id, to, as_json=as_json)


def replay(
    run_id: RunId,
    *,
    db: Db,
    against: Annotated[str | None, typer.Option(metavar="MODULE:ATTR", help="Compare with what this agent does.")] = None,
    deps: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Makes the run's deps, as that of a worker.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print what was said and done in a run, or drive today's agent through it: no network, and no tool is called."""
    with reported(debug=debug):
        from .exits import Exit
        from .replay import replay_run

        code: Exit = replay_run(db, run_id, against, deps=deps, as_json=as_json)
    raise typer.Exit(code)


def add_store_commands(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (submit, worker, runs, show, events, approve, answer, cancel, fork, prune, export, replay):
        app.command()(command)
