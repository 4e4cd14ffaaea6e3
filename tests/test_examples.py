"""Every example is run, as a program of its own, against the simulator."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from agentkit.messages import Assistant
from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, SimRequest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, simulator: DeepSeekSimulator, *arguments: str, typed: str = "") -> str:
    env = {**os.environ, "AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    ended = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=60, check=False, input=typed)
    assert ended.stderr == ""
    assert ended.returncode == 0
    return ended.stdout


def test_every_example_has_a_test_and_at_most_forty_lines() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert example.stem in here
        code = example.read_text(encoding="utf-8").splitlines()
        assert len(code) <= 40, f"{example.name} has {len(code)} lines"


def test_01_hello_tool() -> None:
    def answers(request: SimRequest) -> Any:
        return f"It is {request.last['content']}." if request.turn else call("get_weather", city="Paris")

    with DeepSeekSimulator(answers) as simulator:
        printed = run("01_hello_tool.py", simulator)
    assert printed.startswith("It is 18 °C and sunny in Paris.\n2 steps, 1 tool call, ")


def test_02_typed_output() -> None:
    ticket = {"product": "billing", "urgency": "high", "summary": "Customers cannot pay."}
    with DeepSeekSimulator([call("final_answer", **{**ticket, "urgency": "urgent"}), call("final_answer", **ticket)]) as sim:
        assert run("02_typed_output.py", sim) == "high | billing | Customers cannot pay.\n"
        assert "urgency" in sim.requests[1].messages[-1]["content"]


def test_03_streaming() -> None:
    both = Assistant(
        reasoning="I need both numbers.", tool_calls=(call("population", city="Paris"), call("population", city="Rome"))
    )
    with DeepSeekSimulator([both, "Rome is larger."]) as simulator:
        printed = run("03_streaming.py", simulator)
    assert "I need b" in printed
    assert '-> population {"city": "Rome"}' in printed
    assert "<- 2749000" in printed
    assert "Rome is larger." in printed.replace("\n", "")


def test_04_file_tools(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("print(1)\n")
    (tmp_path / "two.py").write_text("print(1)\nprint(2)\n")

    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("find_files", pattern="*.py")
        if request.turn == 1:
            return [call("read_file", path=path) for path in ("one.py", "two.py", "three.py")]
        longest = max(request.messages[-3:-1], key=lambda m: len(m["content"]))
        return "two.py is the longest" if "print(2)" in longest["content"] else "?"

    with DeepSeekSimulator(answers) as simulator:
        printed = run("04_file_tools.py", simulator, str(tmp_path))
    assert "<- error:" in printed
    assert printed.endswith("two.py is the longest\n")


def test_05_fastapi_app(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    def answers(request: SimRequest) -> Any:
        return f"There are {request.last['content']}." if request.last["role"] == "tool" else call("stock", item="chair")

    with DeepSeekSimulator(answers) as simulator:
        monkeypatch.setenv("AGENTKIT_BASE_URL", simulator.base_url)
        monkeypatch.setenv("AGENTKIT_API_KEY", "test")
        spec = util.spec_from_file_location("example_05", EXAMPLES / "05_fastapi_app.py")
        assert spec
        assert spec.loader
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)

        async def main() -> None:
            transport = httpx.ASGITransport(app=module.app)
            async with module.lifespan(module.app), httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                answer = await client.get("/ask", params={"question": "How many chairs?"})
                assert answer.json() == {"answer": "There are 12."}
                streamed = await client.get("/stream", params={"question": "How many chairs?"})
                assert streamed.text == "There are 12."

        asyncio.run(main())


def test_06_sync_program() -> None:
    def answers(request: SimRequest) -> Any:
        last = request.last
        if last["role"] == "tool":
            return f"Done: {last['content']}."
        return call("pay", amount=20, to="Grace") if "Pay" in last["content"] else call("balance")

    with DeepSeekSimulator(answers) as simulator:
        printed = run("06_sync_program.py", simulator, typed="y\n")
    assert (
        printed
        == "run pay? [y/n] Done: Ada has 120.00 EUR.\nDone: paid 20.00 EUR to Grace.\nbalance: 100.00 EUR after 8 messages\n"
    )


def test_07_test_offline() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLES)]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTKIT", "PYTEST", "COV"))}
    path = str(EXAMPLES / "07_test_offline.py")
    ended = subprocess.run([*command, path], env=env, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert "2 passed" in ended.stdout


def test_08_cached_model() -> None:
    with DeepSeekSimulator(["It scatters sunlight."]) as simulator:
        printed = run("08_cached_model.py", simulator).splitlines()
        assert len(simulator.requests) == 1
    assert printed[0].startswith("It scatters sunlight. (1 requests, ")
    assert printed[1] == "It scatters sunlight. (0 requests, 0 tokens)"


def test_09_image(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with DeepSeekSimulator(["A dot."]) as simulator:
        assert run("09_image.py", simulator, str(tmp_path / "dot.png")) == "A dot.\n"
        assert [part["type"] for part in simulator.requests[0].last["content"]] == ["text", "image_url"]


def test_10_planner_and_workers() -> None:
    def answers(request: SimRequest) -> Any:
        role = str(request.messages[0]["content"])
        if role.startswith("Split"):
            return call("final_answer", answer=["The Forum", "Food"])
        if role.startswith("Do the task"):
            return f"All about {request.last['content']}."
        return f"{str(request.last['content']).count('All about')} notes."

    with DeepSeekSimulator(answers) as simulator:
        assert run("10_planner_and_workers.py", simulator, "Rome?") == "2 notes.\n"


def test_11_router() -> None:
    def answers(request: SimRequest) -> Any:
        if "Hand over" in str(request.messages[0]["content"]):
            return call("transfer_to_orders")
        return f"It is {request.last['content']}." if request.turn else call("find_order", number="A-17")

    with DeepSeekSimulator(answers) as simulator:
        assert run("11_router.py", simulator, "Where is my order A-17?") == "It is shipped on Monday.\n"
        assert run("11_router.py", simulator, "My card is 4111 1111 1111 1111.") == "stopped: guardrail:no_cards\n"
