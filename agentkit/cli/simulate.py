"""`agentkit simulator`: the offline endpoint as a program of its own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from ..messages import Assistant
from ..testing import SCENARIOS, DeepSeekSimulator, SimRequest
from ..testing.simulator.replies import AnyReply
from ..testing.simulator.response import Response
from ..testing.simulator.scenarios import example_call
from .exits import Exit, UsageError
from .screen import Screen
from .text import clean

__all__ = ["serve_simulator"]

_HOUR = 3600.0


class _Printing(DeepSeekSimulator):
    """A simulator that prints one line for each request."""

    def __init__(self, screen: Screen, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._screen = screen

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """The response, which is printed with the reason of a refusal."""
        self.errors.clear()
        self.warnings.clear()
        response = super().respond(method, path, headers, body)
        notes = [*(failure.message for failure in self.errors), *self.warnings]
        status = str(response.status or "hangs up")
        self._screen.line(f"{status} {method} {clean(path)}{': ' if notes else ''}{clean('; '.join(notes))}")
        return response


def serve_simulator(screen: Screen, *, port: int, scenario: str | None, context_length: int | None, delay: float) -> Exit:
    """Serve until Ctrl-C. Raises `UsageError` for an unknown scenario or a port that is taken."""
    if scenario is not None and scenario not in SCENARIOS:
        raise UsageError(f"no scenario is named {scenario!r}; there are: {', '.join(sorted(SCENARIOS))}")
    options = {} if context_length is None else {"context_length": context_length}
    simulator = _Printing(screen, scenario or _try_out, port=port, delay=delay, keep_requests=False, **options)
    try:
        simulator.start()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot listen on port {port}: {why}; --port 0 takes a free one") from error
    try:
        screen.line(f"simulator on {simulator.base_url}; Ctrl-C ends it")
        screen.line(f'try: agentkit run "Hello" --base-url {simulator.base_url}', "dim")
        while True:
            time.sleep(_HOUR)
    except KeyboardInterrupt:
        return Exit.ANSWER
    finally:
        simulator.stop()


def _try_out(request: SimRequest) -> AnyReply:
    """Call the tool that fits the message best and answer with its result, or repeat the message if there is no tool."""
    if request.last["role"] != "tool" and request.tools:
        return Assistant("", "I need the tool.", (example_call(request, _best_tool(request)),))
    return SCENARIOS["weather" if request.tools else "echo"]()(request)


def _best_tool(request: SimRequest) -> str:
    """The name of the tool that has the most words of the last message in its name and description; of equals, the first."""
    said = _words(str(request.last.get("content")))
    best = max(request.tools, key=lambda tool: len(said & _words(f"{tool['name']} {tool.get('description', '')}")))
    return str(best["name"])


def _words(text: str) -> set[str]:
    """The words of at least four letters."""
    return set(re.findall(r"[^\W\d_]{4,}", text.lower()))
