"""Results of outside tools, given to a run that waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError
from ..events import ResultGiven
from ..messages import plain_text
from ..parts import Audio, File, Image, ToolReturn
from .execute import describe_error, render
from .state import RunState

__all__ = ["given_results"]


def given_results(results: Mapping[str, Any], state: RunState) -> list[ResultGiven]:
    """The events of these results of outside calls. An exception is an error for the model.

    Raises `SettingsError` if a call does not wait for a result, and if JSON cannot hold a result.
    """
    waiting = {call.id: call for call in state.outside}
    found = []
    for call_id, value in results.items():
        if call_id not in waiting:
            raise SettingsError(f"no call {call_id} waits for a result; waiting: {', '.join(waiting) or 'none'}")
        if isinstance(value, BaseException):
            found.append(ResultGiven(call_id, plain_text(f"error: {describe_error(value)}"), is_error=True))
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, Image | Audio | File | ToolReturn) for item in values):
            raise SettingsError(f"results[{call_id!r}] holds a part; a result is text, or a value that JSON can hold")
        try:
            found.append(ResultGiven(call_id, render(value), is_json=not isinstance(value, str)))
        except TypeError as error:
            raise SettingsError(f"results[{call_id!r}]: {error}") from None
    return found
