"""The error tree. Each error carries what a handler needs.

    AgentError
    ├── ToolDefinitionError      a function that cannot become a tool (also a TypeError)
    ├── ToolArgumentsInvalid     arguments that do not fit a tool's parameters (also a ValueError)
    ├── ModelRetry               raised by a tool: the model is told why, and tries again
    ├── SettingsError            a setting out of its range, or two that exclude each other (also a ValueError)
    ├── MissingKey               no API key for the chosen server
    ├── LimitReached             a limit was reached and the agent was asked to raise
    ├── LogFailed                the log of a run did not take an event
    ├── OutputInvalid            the final answer does not fit `output_type`, after its repair turns
    └── ModelError               the model call failed
        ├── BadRequest           400, 404, 413, 422: the request is wrong; the same request would fail again
        │   └── ContextTooLong   the prompt and `max_tokens` do not fit the context window
        ├── AuthError            401, 403
        ├── InsufficientBalance  402, and 429 for a quota that is used up
        ├── RateLimited          429
        ├── Overloaded           408, 409, 425, 5xx
        │   └── CircuitOpen      the server failed again and again, and is left alone; nothing was sent
        ├── ConnectionFailed     no whole reply came over the network: refused, reset
        │   ├── TimedOut         no connection, no byte or no whole reply in time
        │   └── InsecureServer   its certificate is not valid, or it does not speak TLS
        ├── StreamBroken         a reply that was cut or garbled on its way
        ├── ReplyTooLarge        a reply beyond the size that the client takes
        ├── EmptyReply           neither text nor tool calls
        └── ContentFiltered      the server withheld the reply

An error that ends a run has `.state` (the `RunState` so far: messages, usage, open calls), so nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AgentError",
    "AuthError",
    "BadRequest",
    "CircuitOpen",
    "ConnectionFailed",
    "ContentFiltered",
    "ContextTooLong",
    "EmptyReply",
    "EndpointWarning",
    "InsecureServer",
    "InsufficientBalance",
    "LimitReached",
    "LogFailed",
    "MissingKey",
    "ModelError",
    "ModelRetry",
    "OutputInvalid",
    "Overloaded",
    "RateLimited",
    "ReplyTooLarge",
    "SettingsError",
    "StreamBroken",
    "Suspended",
    "TimedOut",
    "ToolArgumentsInvalid",
    "ToolDefinitionError",
    "ToolDefinitionWarning",
    "error_for_status",
]


class AgentError(Exception):
    """Base of every error that agentkit raises.

    `state` is the `RunState` of the run that the error ended, or None outside a run. It is typed loosely because
    errors are the lowest layer.
    """

    state: Any = None


class ToolDefinitionWarning(UserWarning):
    """A tool can be used, but not all of it as it is written: the text says which part and why."""


class EndpointWarning(UserWarning):
    """A server answers in a way that its set-up does not mean; the text says what to check."""


class ToolDefinitionError(AgentError, TypeError):
    """A function cannot be described as a tool; the message names the function, the parameter and the remedy."""


class ToolArgumentsInvalid(AgentError, ValueError):
    """A call's arguments do not fit the tool; the message is written for the model to mend the call."""


class ModelRetry(AgentError):
    """Raise it inside a tool to tell the model, in your words, why the call failed and what to do instead."""


class Suspended(BaseException):
    """Raised inside a tool: the call waits for the run `run_id` that it has made, which has paused.

    `pending` are the calls of that run that wait for an approval, and `events` its events so far. It is no `Exception`, so that
    nothing on its way takes it for an error.
    """

    def __init__(self, run_id: str, pending: tuple[Any, ...], events: tuple[Any, ...]) -> None:
        super().__init__(f"the run {run_id} waits for {len(pending)} approvals")
        self.run_id, self.pending, self.events = run_id, pending, events


class SettingsError(AgentError, ValueError):
    """A setting is out of range or two settings exclude each other; raised before anything is sent."""


class MissingKey(AgentError):
    """No API key is set for the server; the message says what to set."""


class LimitReached(AgentError):
    """A limit was reached, and `Limits(on_limit="raise")` asked for an error instead of a result."""

    def __init__(self, stop_reason: str) -> None:
        super().__init__(f"the run stopped at its {stop_reason.removeprefix('limit:')} limit")
        self.stop_reason = stop_reason

    def __reduce__(self) -> tuple[type[LimitReached], tuple[str]]:
        """Pickled by its stop reason."""
        return type(self), (self.stop_reason,)


class LogFailed(AgentError):
    """The log of a run did not take an event, so the run was left: nothing that depends on the event has happened.

    `state` is what the log has. The log's own error is the cause. The run can go on with `agent.resume(log=...)`.
    """


class OutputInvalid(AgentError):
    """The final answer did not fit `output_type`. `text` is what the model wrote last."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class ModelError(AgentError):
    """A model call failed.

    `status` is the HTTP status (None when none came), `body` the server's text (at most 2,000 characters),
    `code` its error code, `request_id` the id to quote to the provider, `retry_after` the seconds that the server
    asked to wait, `partial` the text of the answer that came before. `retryable` tells whether the same request may
    succeed later: by the kind of the error, or as the server says. `estimated` (a `Spending`, or None) is what was used in
    spite of the failure, all attempts together: of a reply that had begun, its prompt and what came of it. `waited` is how
    many seconds were spent waiting for a turn, and between attempts.
    """

    retryable = False
    estimated: Any = None
    waited = 0.0

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        partial: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.body, self.code = status, body, code
        self.request_id, self.retry_after = request_id, retry_after
        self.partial = partial
        if retryable is not None:
            self.retryable = retryable


class BadRequest(ModelError):
    """The server refused the request itself."""


class ContextTooLong(BadRequest):
    """The prompt and the room for the answer do not fit the model's context window."""


class AuthError(ModelError):
    """The key is wrong or not allowed to do this."""


class InsufficientBalance(ModelError):
    """The account has no money left."""


class RateLimited(ModelError):
    """Too many requests at once, or in the server's time window."""

    retryable = True


class Overloaded(ModelError):
    """The server is busy or failed on its side."""

    retryable = True


class CircuitOpen(Overloaded):
    """The server failed again and again, and is left alone for `retry_after` seconds: nothing was sent (see `Limiter`)."""


class ConnectionFailed(ModelError):
    """The network failed before a whole reply came."""

    retryable = True


class TimedOut(ConnectionFailed):
    """No connection, no byte, or no whole reply came in time."""


class InsecureServer(ConnectionFailed):
    """The server's certificate is not valid, or it speaks no TLS. Nothing was sent; it is never tried without TLS."""

    retryable = False


class StreamBroken(ModelError):
    """A reply was cut or garbled; no tool of it runs. `partial` is the text that came."""

    retryable = True


class ReplyTooLarge(ModelError):
    """A reply went on beyond the size that the client takes; see `ChatModel(max_bytes=)`."""


class EmptyReply(ModelError):
    """The reply held neither text nor tool calls."""

    retryable = True


class ContentFiltered(ModelError):
    """The server's content filter withheld the reply; `partial` is the text that came before."""


def error_for_status(status: int) -> type[ModelError]:
    """The error class of an HTTP status (DeepSeek's error page, and the common meaning of the others)."""
    by_status: Mapping[int, type[ModelError]] = {
        401: AuthError, 402: InsufficientBalance, 403: AuthError, 408: Overloaded, 409: Overloaded, 425: Overloaded,
        429: RateLimited, 451: ContentFiltered,
    }  # fmt: skip
    return by_status.get(status, Overloaded if status >= 500 else BadRequest)
