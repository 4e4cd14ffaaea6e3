"""Ready-made tools for agents. Each is made by a function whose arguments are its limits.

They use only the public API of agentkit. What comes from outside (files, web pages, programs, databases) is labelled as
untrusted output; whatever is cut says so, with counts.
"""

from .calculator import calculator
from .clock import CurrentTime, clock
from .files import file_tools
from .http import http_tools
from .shell import shell
from .sqlite import sqlite_tools

__all__ = ["CurrentTime", "calculator", "clock", "file_tools", "http_tools", "shell", "sqlite_tools"]
