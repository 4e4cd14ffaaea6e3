"""Tools for testing agents: the offline DeepSeek simulator, a scripted model without HTTP, and cassettes of real exchanges.

    from agentkit.testing import DeepSeekSimulator, call

With pytest, the fixture `deepseek` (`agentkit_pytest`) starts and stops the simulator, and points the environment at
it; the fixture `cassette` replays the exchanges that `pytest --record-cassettes` recorded.
"""

from ..messages import Assistant, ToolCall
from ..models.scripted import ScriptedModel, call
from .cassette import Cassette, CassetteMismatch
from .replay import ReplayMismatch, replay
from .simulator import SCENARIOS, Cut, DeepSeekSimulator, Failure, Hangup, Late, Raw, Reply, SimRequest

__all__ = [
    "SCENARIOS",
    "Assistant",
    "Cassette",
    "CassetteMismatch",
    "Cut",
    "DeepSeekSimulator",
    "Failure",
    "Hangup",
    "Late",
    "Raw",
    "ReplayMismatch",
    "Reply",
    "ScriptedModel",
    "SimRequest",
    "ToolCall",
    "call",
    "replay",
]
