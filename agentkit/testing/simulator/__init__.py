"""A strict DeepSeek V4 endpoint, offline. Use it through `agentkit.testing`."""

from .replies import Cut, Failure, Hangup, Late, Raw, Reply
from .request import SimRequest
from .scenarios import SCENARIOS
from .simulator import DeepSeekSimulator

__all__ = ["SCENARIOS", "Cut", "DeepSeekSimulator", "Failure", "Hangup", "Late", "Raw", "Reply", "SimRequest"]
