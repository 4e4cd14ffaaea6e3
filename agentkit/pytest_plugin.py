"""The pytest plugin: the fixtures `deepseek`, an offline DeepSeek endpoint in one line, and `cassette`, a recorded one.

It is loaded by pytest wherever agentkit is installed, so it imports nothing of agentkit before the fixture is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from .testing import Cassette, DeepSeekSimulator

    StartSimulator: TypeAlias = Callable[..., DeepSeekSimulator]

__all__ = ["cassette", "deepseek", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that has the fixture `cassette` record."""
    text = "have the fixture cassette send requests to the server and record the answers"
    parser.getgroup("agentkit").addoption("--record-cassettes", action="store_true", help=text)


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """The recorded exchanges of this test, in `cassettes/<module>/<test>.jsonl` beside its file.

        def test_greeting(cassette):
            model = ChatModel("deepseek-v4-flash", api_key=os.environ.get("MY_KEY", "none"), client=cassette.client())
            assert Agent(model).run_sync("Hi").output

    `pytest --record-cassettes` sends the requests to the server and records the answers anew; without it nothing leaves the
    process, and a request that differs raises `CassetteMismatch`, also at the end of the test where something (such as an
    agent's tool) has caught it. Of a test in a class the file is named after both, and of one with parameters after them.
    """
    from .testing import Cassette

    test = request.node.nodeid.partition("::")[2].replace("::", ".")
    name = re.sub(r"[^\w.-]+", "_", test)[:100]
    if name != test:  # other parameters may look the same
        name += "-" + sha256(test.encode(errors="replace")).hexdigest()[:8]
    path = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    tape = Cassette(path, record=request.config.getoption("--record-cassettes"))
    yield tape
    if tape.mismatch is not None:
        raise tape.mismatch


@pytest.fixture
def deepseek(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartSimulator]:
    """Start a `DeepSeekSimulator`; it takes the same arguments, and is stopped when the test ends.

        def test_greeting(deepseek):
            sim = deepseek(["Hello!"])
            assert my_agent().run_sync("Hi").output == "Hello!"
            assert sim.errors == []

    Until the test ends, AGENTKIT_BASE_URL and AGENTKIT_API_KEY in the environment lead to the simulator that was
    started last, and AGENTKIT_MODEL is unset; so an agent that is built in the test, and names no server, talks to it.
    Nothing is asserted at the end: look at `sim.errors` for requests that the real endpoint would have refused, and at
    `sim.requests` for what the agent sent.
    """
    from .testing import DeepSeekSimulator

    with ExitStack() as stack:

        def start(*answers: Any, **options: Any) -> DeepSeekSimulator:
            simulator = stack.enter_context(DeepSeekSimulator(*answers, **options))
            monkeypatch.setenv("AGENTKIT_BASE_URL", simulator.base_url)
            monkeypatch.setenv("AGENTKIT_API_KEY", options.get("api_key") or "sk-offline-simulator")
            monkeypatch.delenv("AGENTKIT_MODEL", raising=False)
            return simulator

        yield start
