"""agentkit: agents built on function calling.

Write functions, give them to an agent, and run it. Start with `Agent`, `tool` and `RunResult`. Importing this package does no
work and loads no extra; `ChatModel` and `ScriptedModel` are loaded on first use.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import _moved
from .agent import Agent
from .errors import (
    AgentChanged,
    AgentError,
    AuthError,
    BadRequest,
    CircuitOpen,
    ConnectionFailed,
    ContentFiltered,
    ContextTooLong,
    EmptyReply,
    EndpointWarning,
    InsecureServer,
    InsufficientBalance,
    LimitReached,
    LogFailed,
    MissingKey,
    ModelError,
    ModelRetry,
    OutputInvalid,
    Overloaded,
    RateLimited,
    ReplyTooLarge,
    RunBusy,
    RunExists,
    SettingsError,
    StopRun,
    StoreError,
    StreamBroken,
    TimedOut,
    ToolArgumentsInvalid,
    ToolDefinitionError,
    ToolDefinitionWarning,
)
from .events import (
    ApprovalGiven,
    ApprovalRequired,
    CallJudged,
    CallReconciled,
    CallSuspended,
    Event,
    MessageAdded,
    ModelReplied,
    Nested,
    PartialOutput,
    ReasoningDelta,
    ResultGiven,
    Retrying,
    RunFinished,
    RunInfo,
    RunPaused,
    RunResumed,
    RunStarted,
    StepStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    UsageAdded,
)
from .history import KeepTurns
from .messages import Assistant, Message, System, ToolCall, ToolResult, Usage, User
from .model import Model, ModelInfo, ModelReply, ModelRequest, ModelSettings
from .models.fallback import Fallback
from .models.rate_limit import Limiter
from .models.retry import Retry
from .models.wrapper import ModelWrapper
from .parts import Audio, File, Image, ToolReturn
from .run.limits import Limits
from .run.middleware import Middleware
from .run.result import RunResult
from .run.state import RunState, load_messages
from .run.stream import RunStream, SyncRunStream
from .run.text_stream import SyncTextStream, TextStream
from .tools.context import RunContext
from .tools.reconcile import Done, NotDone, Unknown
from .tools.registry import ToolRegistry
from .tools.tool import Tool, tool
from .tools.toolset import Toolset

if TYPE_CHECKING:
    from .mapping import MapItem
    from .middleware.guardrail import guardrail
    from .models.chat import ChatModel
    from .models.profiles import Profile
    from .models.scripted import ScriptedModel
    from .tools.adapters import as_tool

    __version__: str

__all__ = [
    "Agent",
    "AgentChanged",
    "AgentError",
    "ApprovalGiven",
    "ApprovalRequired",
    "Assistant",
    "Audio",
    "AuthError",
    "BadRequest",
    "CallJudged",
    "CallReconciled",
    "CallSuspended",
    "ChatModel",
    "CircuitOpen",
    "ConnectionFailed",
    "ContentFiltered",
    "ContextTooLong",
    "Done",
    "EmptyReply",
    "EndpointWarning",
    "Event",
    "Fallback",
    "File",
    "Image",
    "InsecureServer",
    "InsufficientBalance",
    "KeepTurns",
    "LimitReached",
    "Limiter",
    "Limits",
    "LogFailed",
    "MapItem",
    "Message",
    "MessageAdded",
    "Middleware",
    "MissingKey",
    "Model",
    "ModelError",
    "ModelInfo",
    "ModelReplied",
    "ModelReply",
    "ModelRequest",
    "ModelRetry",
    "ModelSettings",
    "ModelWrapper",
    "Nested",
    "NotDone",
    "OutputInvalid",
    "Overloaded",
    "PartialOutput",
    "Profile",
    "RateLimited",
    "ReasoningDelta",
    "ReplyTooLarge",
    "ResultGiven",
    "Retry",
    "Retrying",
    "RunBusy",
    "RunContext",
    "RunExists",
    "RunFinished",
    "RunInfo",
    "RunPaused",
    "RunResult",
    "RunResumed",
    "RunStarted",
    "RunState",
    "RunStream",
    "ScriptedModel",
    "SettingsError",
    "StepStarted",
    "StopRun",
    "StoreError",
    "StreamBroken",
    "SyncRunStream",
    "SyncTextStream",
    "System",
    "TextDelta",
    "TextStream",
    "TimedOut",
    "Tool",
    "ToolArgsDelta",
    "ToolArgumentsInvalid",
    "ToolCall",
    "ToolDefinitionError",
    "ToolDefinitionWarning",
    "ToolFinished",
    "ToolProgress",
    "ToolRegistry",
    "ToolResult",
    "ToolReturn",
    "ToolStarted",
    "Toolset",
    "Unknown",
    "Usage",
    "UsageAdded",
    "User",
    "as_tool",
    "guardrail",
    "load_messages",
    "tool",
]

_moved.install()


def _quiet(_record: logging.LogRecord) -> bool:
    """With the first record, add the handler of a library, which prints nothing: the program decides what is logged."""
    logger = logging.getLogger(__name__)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return True


logging.getLogger(__name__).addFilter(_quiet)  # not the handler: an import attaches none

_LATE = {
    "MapItem": ".mapping",
    "guardrail": ".middleware.guardrail",
    "as_tool": ".tools.adapters",
    "ChatModel": ".models.chat",
    "Profile": ".models.profiles",
    "ScriptedModel": ".models.scripted",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _installed_version()
    if name not in _LATE:
        raise AttributeError(f"module 'agentkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name], __name__), name)


def _installed_version() -> str:
    """The version of the installed package. "0+unknown" in a checkout that is only on the path, and not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("agentkit")
    except PackageNotFoundError:
        return "0+unknown"
