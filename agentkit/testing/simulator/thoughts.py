"""The check that thinking text is sent back unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from . import message_rules
from .replies import Failure
from .request import HALF, Behaviour, SimRequest
from .wire import Completion

__all__ = ["Thoughts"]


class Thoughts:
    """The thinking text of every message that was sent, by the ids of the message's calls, or by its text if it has none.

    The real server is not known to compare texts. If a client changes one, the model reads thoughts that it never had, and the
    cached prefix breaks. The real server reports neither, so the simulator refuses such a request.
    """

    def __init__(self) -> None:
        self._sent: defaultdict[object, set[str]] = defaultdict(set)

    def remember(self, completion: Completion) -> None:
        """Store a completion's thinking text, if the model thinks. Half of a surrogate pair could not be sent back."""
        message = completion.message
        if completion.thinking and not HALF.search(message.reasoning):
            key = tuple(call.id for call in message.tool_calls) or message.text
            self._sent[key].add(message.reasoning)

    def refusal(self, request: SimRequest, behaviour: Behaviour) -> Failure | None:
        """The refusal of a request with a changed text. Messages that this simulator did not send are not checked."""
        if behaviour.passback == "present":
            return None
        for index, message in message_rules.needing_reasoning(request, behaviour):
            known = self._sent.get(_key(message))
            if known and message["reasoning_content"] not in known:
                return Failure(
                    400,
                    f"simulator: the `reasoning_content` of messages[{index}] is not the text that was sent. The API is not "
                    "known to refuse it, but the model would read thoughts that it never had",
                )
        return None


def _key(message: Mapping[str, Any]) -> object:
    calls = tuple(call["id"] for call in message.get("tool_calls") or ())
    content = message.get("content")
    return calls or (content if isinstance(content, str) else None)
