"""Runs in a store: how an agent begins one, and goes on with one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ._agent_parts import known_state
from ._agent_tool import agent_of
from ._given import Given, answered, answered_in_store
from ._per_run import OVERRIDES, Conversation
from ._threads import Threads
from .errors import AgentChanged, RunBusy, RunExists, SettingsError, StoreError
from .events import RunResumed, RunStarted
from .history import repaired_history
from .names import check_name
from .run.fingerprint import changed_tools, described, described_json
from .run.journal import TreeLog, state_of
from .run.observers import Observer
from .run.result import RunResult
from .run.run import ChildRun
from .run.state import RunState

if TYPE_CHECKING:
    from ._agent_parts import RunOptions
    from .run.run import Leave
    from .run.storing import StoredDrive

__all__ = ["Given", "go_on", "run_or_go_on", "run_stored"]

_MAX_WAIT = 60.0
"""Seconds that a run waits for the run of its session that has not ended."""


class _Leave:
    """Is set if the program's own flag is, or if another process has the run."""

    def __init__(self, own: Leave | None, drive: StoredDrive) -> None:
        self._own, self._drive = own, drive

    def is_set(self) -> bool:
        return self._drive.is_set() or (self._own is not None and self._own.is_set())


def _taken(options: RunOptions) -> tuple[Any, str | None, str]:
    """The store options, taken out of the run's options. Raises `SettingsError` for those that cannot go together."""
    store, session, busy = options.pop("store", None), options.pop("session", None), options.pop("session_busy", "wait")
    if options.get("log") is not None:
        raise SettingsError("log and store: a store has the log of the run; give one of them")
    if options.get("within") is not None:
        raise SettingsError("within and store: a child run is stored with its parent, which has the store")
    if session is not None and options.get("messages"):
        raise SettingsError("session and messages: the session has the messages; give one of them")
    for what, name in (("session", session), ("run_id", options.get("run_id"))):
        if name is not None:
            check_name(what, name)
    if busy not in ("wait", "fail"):
        raise SettingsError(f"session_busy is {busy!r:.80}; allowed: wait, fail")
    return store, session, busy


async def run_stored(agent: Any, conversation: Conversation, options: RunOptions, watcher: Observer | None) -> RunResult[Any]:
    """A new run in the store that the options name."""
    store, session, busy = _taken(options)
    run_id = options.get("run_id") or os.urandom(16).hex()
    drive = await _begun(store, run_id, session, 0.0 if busy == "fail" else _MAX_WAIT)
    if drive.history:
        conversation = replace(conversation, history=tuple(repaired_history(list(drive.history))))
    options["run_id"], options["log"] = run_id, drive.log
    options["leave"] = _Leave(options.get("leave"), drive)

    async def begin() -> RunResult[Any]:
        if not agent._depends_on_run and not any(name in options for name in OVERRIDES):
            await drive.describe(agent.fingerprint, described(agent.spec))
        await _describe_inner(drive, agent)
        result: RunResult[Any] = await agent._run(conversation, options, watcher)
        return result

    return await _driven(drive, begin)


async def _describe_inner(drive: StoredDrive, agent: Any) -> None:
    """Keep the parts of the agents that are tools of the agent, and of their own such agents: child runs begin with them."""
    for inner in filter(None, map(agent_of, agent.spec.tools)):
        if not inner._depends_on_run:
            await drive.describe(inner.fingerprint, described(inner.spec))
        await _describe_inner(drive, inner)


async def run_or_go_on(agent: Any, run_id: str, prompt: Any, options: Mapping[str, Any]) -> RunResult[Any]:
    """The run with this id in the store: begun, gone on with, or, if it has ended, its result without a model call.

    Raises `RunExists` if it began with another prompt.
    """
    try:
        begun: RunResult[Any] = await agent.run(prompt, run_id=run_id, **options)
        return begun
    except RunExists:
        state = await asyncio.to_thread(cast("Any", options["store"]).state, run_id)
        if state.messages[state.new_from :][:1] != [*Conversation.of(prompt, ()).new]:
            raise
    rest = {name: option for name, option in options.items() if name not in ("messages", "instructions", "session", "metadata")}
    result: RunResult[Any] = await agent.resume(run_id, **rest)
    return result


async def go_on(agent: Any, state: object, given: Given, options: RunOptions, watcher: Observer | None) -> RunResult[Any]:
    """Go on with a run: from its state, its log, or a store."""
    for name, where in (("messages", "its transcript is in its state"), ("instructions", "they were recorded when it began")):
        if options.get(name):
            raise SettingsError(f"{name} cannot be given to a run that goes on; {where}")
    if options.get("store") is not None:
        return await _resume_stored(agent, state, given, options, watcher)
    if isinstance(state, str):
        raise SettingsError(
            f"resume of the run {state[:80]!r}: give store=, where the run is, or a state (RunState.loads(text))"
        )
    known = await known_state(state, options.get("log"))  # type: ignore[arg-type]
    agent = await _made_for(agent, known, options)
    first = [agent._resumed(known), *answered(agent, known, given)]
    result: RunResult[Any] = await agent._drive(known, first, options, watcher)
    return result


async def _made_for(agent: Any, known: RunState, options: RunOptions, drive: StoredDrive | None = None) -> Any:
    made = await agent._for_run(options, known)
    if not options.pop("allow_changed", True):
        await _check_unchanged(known, made, options, drive)
    return made


async def _resume_stored(
    agent: Any, run_id: object, given: Given, options: RunOptions, watcher: Observer | None
) -> RunResult[Any]:
    """Go on with a run in the store. Answers that were given through the store count as well, and before those given here."""
    store, session, _busy = _taken(options)
    if not isinstance(run_id, str) or not run_id:
        raise SettingsError(f"with store=, resume takes the run's id, not {type(run_id).__name__}")
    if session is not None:
        raise SettingsError("session cannot be given to a run that goes on; it began with its own")
    options["allow_changed"] = options.get("allow_changed", False)
    drive: StoredDrive = await _in_thread(lambda: store.reopen(run_id))
    options["log"], options["leave"] = drive.log, _Leave(options.get("leave"), drive)

    async def go_on() -> RunResult[Any]:
        known = await state_of(drive.log)
        if not known.events:
            raise StoreError(f"run {run_id!r} has no events; there is nothing to go on with")
        made = await _made_for(agent, known, options, drive)
        first = await answered_in_store(made, known, given, drive)
        result: RunResult[Any] = await made._drive(known, first, options, watcher)
        return result

    return await _driven(drive, go_on)


async def _begun(store: Any, run_id: str, session: str | None, max_wait: float) -> StoredDrive:
    """A new drive. It waits for the session's other run if that is under way."""
    until, pause = time.monotonic() + max_wait, 0.05
    while True:
        try:
            return await _in_thread(lambda: store.begin(run_id, session=session))
        except RunBusy as error:
            if not error.ends_soon or time.monotonic() > until:
                raise
        await asyncio.sleep(pause)
        pause = min(1.0, 2 * pause)


async def _driven(drive: StoredDrive, work: Callable[[], Any]) -> RunResult[Any]:
    result: RunResult[Any] | None = await drive.run(work)
    if result is not None:
        return result
    state = await state_of(drive.log)
    if drive.ended is not None and state.stop_reason not in (None, "cancelled"):  # it ended just before it was cancelled
        return drive.ended
    return RunResult(None, state)


async def _in_thread(call: Callable[[], StoredDrive]) -> StoredDrive:
    """The drive that a blocking call gives. If the caller is cancelled meanwhile, it is given back as soon as it comes."""
    taken: Future[StoredDrive] = Future()
    threads = Threads()
    try:
        await threads.run(partial(_take, call, taken))
    except asyncio.CancelledError:
        taken.add_done_callback(_give_back)
        raise
    finally:
        threads.close()
    return taken.result()


def _take(call: Callable[[], StoredDrive], taken: Future[StoredDrive]) -> None:
    try:
        taken.set_result(call())
    except BaseException as error:  # noqa: BLE001  the caller gets it
        taken.set_exception(error)


def _give_back(taken: Future[StoredDrive]) -> None:
    if taken.exception() is None:
        taken.result().give_back()


async def _check_unchanged(known: RunState, agent: Any, options: RunOptions, drive: StoredDrive | None) -> None:
    """Raise `AgentChanged` if the agent, or that of a child run that goes on, is not the one that drove the run last."""
    await _compare(known, agent, drive)
    log, deps = options.get("log"), options.get("deps")
    for call in known.open_calls:
        inner, suspended = agent_of(agent.spec.tools.get(call.call.name)), call.suspended
        if inner is None or suspended is None:
            continue
        below = log.child(suspended.run_id) if isinstance(log, TreeLog) and not suspended.events else None
        child = await ChildRun(suspended.run_id, below, suspended.events, ()).state()
        if child.events:
            made = await inner._for_run({"deps": deps}, child)
            await _check_unchanged(child, made, {"deps": deps, "log": below}, drive)


async def _compare(known: RunState, agent: Any, drive: StoredDrive | None) -> None:
    last = next((event for event in reversed(known.events) if isinstance(event, RunStarted | RunResumed)), None)
    before, now = dict(last.fingerprint) if last else {}, agent.fingerprint
    changed = tuple(name for name in now if name in before and before[name] != now[name])
    if not changed or agent.spec.stop is not None:
        return
    tools = await drive.part("tools", before["tools"]) if drive and "tools" in changed else None
    named = "tools" if tools is None else f"tools ({changed_tools(tools, described_json(agent.spec)['tools'])})"
    raise AgentChanged(
        f"run {known.run_id!r} began with another agent; changed: {', '.join(changed).replace('tools', named)}."
        " Go on with the agent that began it, and the tools=, settings=, model= or output_type= that its run was given, or"
        " allow the change: allow_changed=True, or --allow-changed of `agentkit worker`",
        changed,
    )
