"""The error tree. Each error carries what a handler needs.

    AgentError
    ├── ToolDefinitionError      a function that cannot become a tool (also a TypeError)
    ├── ToolArgumentsInvalid     arguments that do not fit a tool's parameters (also a ValueError)
    ├── ModelRetry               raised by a tool: the model gets the reason and may retry
    ├── SettingsError            a setting out of its range, or two that exclude each other (also a ValueError)
    ├── MissingKey               no API key for the chosen server
    ├── LimitReached             a limit was reached and the agent was asked to raise
    ├── LogFailed                the log of a run failed to store an event
    ├── StoreError               a store cannot be read or written, or has no such run
    │   ├── RunExists            there is a run of this id
    │   └── RunBusy              another process drives the run, or another run has the session
    ├── AgentChanged             the agent is not the one that began the run
    ├── OutputInvalid            the final answer does not fit `output_type`, after all correction attempts
    └── ModelError               the model call failed
        ├── BadRequest           400, 404, 413, 422: the request is wrong; the same request would fail again
        │   └── ContextTooLong   the prompt and `max_tokens` do not fit the context window
        ├── AuthError            401, 403
        ├── InsufficientBalance  402, and 429 for a quota that is used up
        ├── RateLimited          429
        ├── Overloaded           408, 409, 425, 5xx
        │   └── CircuitOpen      the server failed repeatedly, so nothing was sent
        ├── ConnectionFailed     the network failed before the reply was complete
        │   ├── TimedOut         no connection, no data or no complete reply in time
        │   └── InsecureServer   its certificate is invalid, or it does not support TLS
        ├── StreamBroken         a reply was cut off or garbled
        ├── ReplyTooLarge        a reply exceeds the size limit of the client
        ├── EmptyReply           neither text nor tool calls
        └── ContentFiltered      the server withheld the reply

An error that ends a run has `.state`, the `RunState` so far, with messages, usage and open calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AgentChanged",
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
    "RunBusy",
    "RunExists",
    "SettingsError",
    "StopRun",
    "StoreError",
    "StreamBroken",
    "Suspended",
    "TimedOut",
    "ToolArgumentsInvalid",
    "ToolDefinitionError",
    "ToolDefinitionWarning",
    "error_for_status",
    "kind_of",
]


class AgentError(Exception):
    """Base of every error that agentkit raises.

    `state` is the `RunState` of the run that the error ended, or None outside a run. It is typed loosely because
    errors are the lowest layer.
    """

    state: Any = None


class ToolDefinitionWarning(UserWarning):
    """A part of a tool cannot be used as written. The text says which part and why."""


class EndpointWarning(UserWarning):
    """A server's replies do not match its configuration. The text says what to check."""


class ToolDefinitionError(AgentError, TypeError):
    """A function cannot be described as a tool; the message names the function, the parameter and the remedy."""


class ToolArgumentsInvalid(AgentError, ValueError):
    """A call's arguments do not fit the tool; the message tells the model how to correct the call."""


class ModelRetry(AgentError):
    """Raise it inside a tool to tell the model why the call failed and what to do instead."""


class Suspended(BaseException):
    """Raised inside a tool: the call waits for its child run `run_id`, which has paused or was left.

    `pending` are the calls of the child run that wait for an approval, and `events` are its events so far. It is not an
    `Exception`, so that no handler mistakes it for an error.
    """

    def __init__(
        self, run_id: str = "", pending: tuple[Any, ...] = (), events: tuple[Any, ...] = (), outside: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"the run {run_id} waits for {len(pending)} approvals")
        self.run_id, self.pending, self.events, self.outside = run_id, pending, events, outside


class StopRun(BaseException):
    """Ends the run now, with this stop reason, output and reason in words.

    Raise it in a middleware, in a tool, or in a function that gives the instructions or the tools. The open calls are answered,
    and nothing more is asked or run. It is no `Exception`, so no code on the way handles it as an error. A stop reason has the
    form "kind:name", such as "guardrail:no_cards".
    """

    def __init__(self, stop_reason: str, output: Any = None, why: str = "") -> None:
        if not isinstance(stop_reason, str) or not stop_reason:
            raise SettingsError(f"StopRun({stop_reason!r:.80}); allowed: a stop reason in words, such as 'guardrail:no_cards'")
        super().__init__(stop_reason)
        self.stop_reason, self.output, self.why = stop_reason, output, why


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
    """The log of a run failed to store an event, so the run was left. Nothing that depends on the event has happened.

    `state` is the state that the log has. The log's own error is the `__cause__`. Continue with `agent.resume(log=...)`.
    """


class StoreError(AgentError):
    """A store cannot be read or written, or it has no such run. The database's own error, if any, is the `__cause__`."""


class RunExists(StoreError):
    """There is a run of this id in the store."""


class RunBusy(StoreError):
    """Another process drives the run, or another run of the session has not ended.

    `ends_soon`: that run is under way, so waiting for it may help.
    """

    ends_soon = False


class AgentChanged(AgentError):
    """The agent is not the one that began the run. `changed` names the parts that differ, as in `Agent.fingerprint`.

    The message names the tools that differ, if the store has them. `resume(..., allow_changed=True)` goes on nevertheless.
    """

    def __init__(self, message: str, changed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.changed = changed


class OutputInvalid(AgentError):
    """The final answer did not fit `output_type`. `text` is what the model wrote last. A note says what was asked."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class ModelError(AgentError):
    """A model call failed.

    `status` is the HTTP status (None without a response). `body` is the server's text (at most 2,000 characters), and `code` is
    its error code. `request_id` is the id to quote to the provider. `retry_after` is how many seconds the server asked to wait.
    `partial` is the text received before the failure. `retryable` says whether the same request may succeed later: by the kind
    of error, or as the server says. `estimated` (a `Spending`, or None) is the spending of all failed attempts: of each reply
    that had begun, its prompt and the part that was received. `waited` is how many seconds were spent waiting for a slot and
    between attempts.
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


def kind_of(error: BaseException | None) -> str:
    """What kind of failure it is, without any text of the server: `Overloaded (HTTP 503)`."""
    status = getattr(error, "status", None)
    return f"{type(error).__name__} (HTTP {status})" if status else type(error).__name__


class BadRequest(ModelError):
    """The server refused the request itself."""


class ContextTooLong(BadRequest):
    """The prompt and `max_tokens` do not fit the model's context window."""


class AuthError(ModelError):
    """The key is wrong or not allowed to do this."""


class InsufficientBalance(ModelError):
    """The account has no money left."""


class RateLimited(ModelError):
    """Too many concurrent requests, or too many in the server's time window."""

    retryable = True


class Overloaded(ModelError):
    """The server is busy or failed on its side."""

    retryable = True


class CircuitOpen(Overloaded):
    """The server failed repeatedly, so no request is sent for `retry_after` seconds (see `Limiter`)."""


class ConnectionFailed(ModelError):
    """The network failed before the reply was complete."""

    retryable = True


class TimedOut(ConnectionFailed):
    """No connection, no data, or no complete reply in time."""


class InsecureServer(ConnectionFailed):
    """The server's certificate is invalid, or it does not support TLS. Nothing was sent, and there is no retry without TLS."""

    retryable = False


class StreamBroken(ModelError):
    """A reply was cut off or garbled; none of its tool calls run. `partial` is the text received."""

    retryable = True


class ReplyTooLarge(ModelError):
    """A reply exceeds the size limit of the client; see `ChatModel(max_bytes=)`."""


class EmptyReply(ModelError):
    """The reply has neither text nor tool calls."""

    retryable = True


class ContentFiltered(ModelError):
    """The server's content filter withheld the reply; `partial` is the text received before that."""


def error_for_status(status: int) -> type[ModelError]:
    """The error class for an HTTP status, by DeepSeek's error page and the common meaning of other statuses."""
    by_status: Mapping[int, type[ModelError]] = {
        401: AuthError, 402: InsufficientBalance, 403: AuthError, 408: Overloaded, 409: Overloaded, 425: Overloaded,
        429: RateLimited, 451: ContentFiltered, 498: Overloaded,
    }  # fmt: skip
    return by_status.get(status, Overloaded if status >= 500 else BadRequest)
