"""What tests of agents need: the offline DeepSeek simulator with its replies, and a scripted model without HTTP.

    from agentkit.testing import DeepSeekSimulator, call

With pytest, the fixture `deepseek` (`agentkit.pytest_plugin`) starts and stops it, and points the environment at it.
"""

from .messages import Assistant, ToolCall
from .models.scripted import ScriptedModel, call
from .simulator import SCENARIOS, Cut, DeepSeekSimulator, Failure, Hangup, Late, Raw, Reply, SimRequest

__all__ = [
    "SCENARIOS",
    "Assistant",
    "Cut",
    "DeepSeekSimulator",
    "Failure",
    "Hangup",
    "Late",
    "Raw",
    "Reply",
    "ScriptedModel",
    "SimRequest",
    "ToolCall",
    "call",
]
