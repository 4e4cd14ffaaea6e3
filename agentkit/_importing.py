"""Refuses a run that begins while a program's file is only being imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import SettingsError

__all__ = ["Loading", "check_not_importing", "loading"]

_HINT = 'put the lines that run it under `if __name__ == "__main__":`'


class Loading:
    """The import of a program's file. `refused` is the error of the first run that it tried to begin."""

    def __init__(self) -> None:
        self.is_active = True
        self.refused: SettingsError | None = None


_loading: ContextVar[Loading | None] = ContextVar("agentkit_loading", default=None)


@contextmanager
def loading() -> Iterator[Loading]:
    """While this context is open, its code cannot run an agent. What it starts in the background can, once it is closed."""
    here = Loading()
    token = _loading.set(here)
    try:
        yield here
    finally:
        here.is_active = False
        _loading.reset(token)


def check_not_importing() -> None:
    """Raise `SettingsError` where a run would begin in an import that is not meant to run anything.

    That is the load of a file by the command line, and the import of the main script in a worker process: with the start
    methods "spawn" and "forkserver", each worker imports the script again, and would run the agent again.
    """
    here = _loading.get()
    if here is not None and here.is_active:
        error = SettingsError(f"the file runs an agent while it is loaded; {_HINT}")
        here.refused = here.refused or error
        raise error
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and getattr(processes.current_process(), "_inheriting", False):  # as multiprocessing itself looks
        raise SettingsError(f"a new worker process imports a file that runs an agent; {_HINT}")
