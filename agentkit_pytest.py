"""The pytest plugin of agentkit: the fixture `deepseek`, an offline DeepSeek endpoint, and `cassette`, a recorded one.

pytest loads it wherever agentkit is installed. So it stands outside the package, imports nothing of agentkit before one of
its fixtures is used, and adds no option to pytest's own. Fixtures of the same name in a project win over these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from agentkit.testing import Cassette, DeepSeekSimulator

    StartSimulator: TypeAlias = Callable[..., DeepSeekSimulator]

__all__ = ["cassette", "deepseek", "pytest_exception_interact", "pytest_load_initial_conftests"]

_OPTION = "--record-cassettes"
_RECORD = "agentkit_record_cassettes"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Take `--record-cassettes` from the command line, unless the project or another plugin has an option of that name.

    The option is not registered, because pytest fails when a project then registers its own.
    """
    yield
    if _OPTION in args and not _is_registered(parser):
        args[:] = [arg for arg in args if arg != _OPTION]  # it may be in `addopts` and on the command line
        setattr(early_config.option, _RECORD, True)


def _is_registered(parser: pytest.Parser) -> bool:
    try:
        return _OPTION not in parser.parse_known_and_unknown_args([_OPTION])[1]
    except pytest.UsageError:  # it is there, and wants a value
        return True


_ENTRIES = frozenset({"agentkit.agent", "agentkit._agent_forms"})
_HINT = 'The file runs an agent while pytest collects it. Put that into a test, or under `if __name__ == "__main__":`.'


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any], report: pytest.CollectReport | pytest.TestReport
) -> None:
    """Where a file cannot be collected because the run of an agent failed in it, say so."""
    if not isinstance(node, pytest.Collector) or call.excinfo is None:
        return
    if any(entry.frame.f_globals.get("__name__") in _ENTRIES for entry in call.excinfo.traceback):
        report.sections.append(("agentkit", _HINT))


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """The recorded exchanges of this test, in `cassettes/<module>/<test>.jsonl` next to its file.

        def test_greeting(cassette):
            model = ChatModel("deepseek-v4-flash", api_key=os.environ.get("MY_KEY", "none"), client=cassette.client())
            assert Agent(model).run_sync("Hi").output

    `pytest --record-cassettes` sends the requests to the server and records the answers anew; without it nothing leaves the
    process, and a request that differs raises `CassetteMismatch`, also at the end of the test if something (such as an
    agent's tool) has caught it. Where another option has that name, set AGENTKIT_RECORD_CASSETTES=1 in the environment.
    The file of a test in a class is named after both; parameters come after them.
    """
    from hashlib import sha256

    from agentkit.testing import Cassette

    test = request.node.nodeid.partition("::")[2].replace("::", ".")
    name = re.sub(r"[^\w.-]+", "_", test)[:100]
    if name != test:  # other parameters may look the same
        name += "-" + sha256(test.encode(errors="replace")).hexdigest()[:8]
    path = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    record = getattr(request.config.option, _RECORD, False) or os.environ.get("AGENTKIT_RECORD_CASSETTES") == "1"
    tape = Cassette(path, record=record)
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
    started last, and AGENTKIT_MODEL is unset. So an agent that is built in the test and names no server talks to it.
    Nothing is asserted at the end: look at `sim.errors` for requests that the real endpoint would have refused, and at
    `sim.requests` for what the agent sent.
    """
    from agentkit.testing import DeepSeekSimulator

    with ExitStack() as stack:

        def start(*answers: Any, **options: Any) -> DeepSeekSimulator:
            simulator = stack.enter_context(DeepSeekSimulator(*answers, **options))
            monkeypatch.setenv("AGENTKIT_BASE_URL", simulator.base_url)
            monkeypatch.setenv("AGENTKIT_API_KEY", options.get("api_key") or "sk-offline-simulator")
            monkeypatch.delenv("AGENTKIT_MODEL", raising=False)
            return simulator

        yield start
