from __future__ import annotations

import sys

import pytest

from .helpers import SETTINGS


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, server or terminal setting of whoever runs the tests; what loading a file adds to the path goes again."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
