"""Every example is run, as a program of its own, against the simulator."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from agentkit.messages import Assistant
from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, Failure, SimRequest

EXAMPLES = Path(__file__).parent.parent / "examples"


def command_of(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]


def environment(simulator: DeepSeekSimulator, **more: str) -> dict[str, str]:
    own = {"AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **own, **more}


def ended(command: list[str], env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    program = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=60, check=False, **options)
    assert program.returncode == 0, program.stderr
    return program


def run(name: str, simulator: DeepSeekSimulator, *arguments: str, typed: str = "", folder: Path | None = None) -> str:
    program = ended(command_of(name, *arguments), environment(simulator), input=typed, cwd=folder)
    assert program.stderr == ""
    return program.stdout


def loaded(name: str) -> Any:
    """The example as a module, as a server imports it."""
    spec = util.spec_from_file_location(f"example_{name[:2]}", EXAMPLES / name)
    assert spec
    assert spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        module = loaded("05_fastapi_app.py")

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
    assert "2 passed" in ended([*command, path], env).stdout


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


def test_12_approve_in_terminal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Buy tea.\n")

    def answers(request: SimRequest) -> Any:
        written = [call("write_file", path=f"{name}.txt", content="Tea.") for name in ("summary", "other")]
        return [call("read_file", path="notes.txt"), written, "I wrote one of two."][request.turn]

    with DeepSeekSimulator(answers) as simulator:
        printed = run("12_approve_in_terminal.py", simulator, str(tmp_path), "Sum up.", typed="\nnot this file\n")
        assert "not this file" in simulator.requests[-1].messages[-1]["content"]
    assert "read_file" not in printed
    assert 'write_file {"path": "summary.txt", "content": "Tea."' in printed
    assert printed.endswith("I wrote one of two.\n")
    assert (tmp_path / "summary.txt").read_text() == "Tea."
    assert not (tmp_path / "other.txt").exists()


def test_13_checked_answers() -> None:
    def booked(guests: int) -> Any:
        return call("final_answer", answer={"day": "Friday", "guests": guests})

    with DeepSeekSimulator([booked(6), booked(4)]) as simulator:
        assert run("13_checked_answers.py", simulator, "A table on Friday") == "Booking(day='Friday', guests=4)\n"
        assert "no such table on Friday" in simulator.requests[1].messages[-1]["content"]
    with DeepSeekSimulator([call("final_answer", answer={"text": "Which day?"})]) as simulator:
        assert run("13_checked_answers.py", simulator, "A table") == "Question(text='Which day?')\n"


def test_14_tools_by_user(tmp_path: Path) -> None:
    for name in ("ann", "root"):
        (tmp_path / "members" / name).mkdir(parents=True)
        (tmp_path / "members" / name / "todo.txt").write_text(f"the notes of {name}\n")

    def answers(request: SimRequest) -> Any:
        return str(request.last["content"]) if request.turn else call("notes_read_file", path="todo.txt")

    with DeepSeekSimulator(answers) as simulator:
        assert "the notes of ann" in run("14_tools_by_user.py", simulator, "ann", "My notes?", folder=tmp_path)
        assert "the notes of root" in run("14_tools_by_user.py", simulator, "root", "My notes?", folder=tmp_path)
        offered = [{tool["function"]["name"] for tool in request.body["tools"]} for request in simulator.requests]
    assert "list_members" not in offered[0]
    assert "list_members" in offered[2]


def test_15_answered_later(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return f"He says: {request.last['content']}" if request.turn else call("ask_inspector", question="Dry?")

    with DeepSeekSimulator(answers) as simulator:
        assert run("15_answered_later.py", simulator, "Is it dry?", folder=tmp_path) == 'waiting for: {"question": "Dry?"}\n'
        assert (tmp_path / "waiting.json").exists()
        assert run("15_answered_later.py", simulator, "--answer", "Yes.", folder=tmp_path) == "He says: Yes.\n"
    assert not (tmp_path / "waiting.json").exists()


def test_16_map_a_file(tmp_path: Path) -> None:
    (tmp_path / "reviews.txt").write_text("Great!\nAwful!\nbroken\n")
    moods = {"Great!": "happy", "Awful!": "angry"}

    def answers(request: SimRequest) -> Any:
        said = str(request.last["content"])
        return call("final_answer", answer=moods[said]) if said in moods else Failure(status=400, message="bad line")

    with DeepSeekSimulator(answers) as simulator:
        printed = run("16_map_a_file.py", simulator, "reviews.txt", "moods.jsonl", folder=tmp_path).splitlines()
    assert printed[0] == "{'happy': 1, 'angry': 1}"
    assert printed[1].startswith("line 3: ")
    assert "bad line" in printed[1]
    lines = [json.loads(line) for line in (tmp_path / "moods.jsonl").read_text().splitlines()]
    assert {line["input"]: line.get("output") for line in lines} == {**moods, "broken": None}


def test_17_server_sent_events(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    def answers(request: SimRequest) -> Any:
        return f"It is {request.last['content']}." if request.turn else call("find_order", number="A-17")

    with DeepSeekSimulator(answers) as simulator:
        monkeypatch.setenv("AGENTKIT_BASE_URL", simulator.base_url)
        monkeypatch.setenv("AGENTKIT_API_KEY", "test")
        module = loaded("17_server_sent_events.py")

        async def main() -> tuple[str, httpx.Response]:
            transport = httpx.ASGITransport(app=module.app)
            async with module.agent, httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return (await client.get("/")).text, await client.get("/events", params={"question": "Where is A-17?"})

        page, streamed = asyncio.run(main())
    assert streamed.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in streamed.text.strip().split("\n\n")]
    events = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
    assert "".join(data["text"] for name, data in events if name == "TextDelta") == "It is shipped on Monday."
    assert [data["call"]["name"] for name, data in events if name == "ToolStarted"] == ["find_order"]
    assert events[-1][0] == "RunFinished"
    assert all(f'"{name}"' in page for name in ("TextDelta", "ToolStarted", "RunFinished"))


def test_18_fallback() -> None:
    busy = Failure(status=503, message="Service is too busy.")
    with DeepSeekSimulator([busy, busy]) as main, DeepSeekSimulator(["It scatters light."]) as spare:
        servers = {"MAIN_URL": main.base_url, "MAIN_KEY": "a", "SPARE_URL": spare.base_url, "SPARE_KEY": "b"}
        program = ended(command_of("18_fallback.py", "Why?"), environment(main, **servers))
        assert [len(main.requests), len(spare.requests)] == [2, 1]
    assert program.stdout.startswith("It scatters light.\nanswer: 1 requests, ")
    assert "the next model is asked" in program.stderr


def test_19_log_and_redact() -> None:
    def answers(request: SimRequest) -> Any:
        return str(request.last["content"]) if request.turn else call("open_bills")

    with DeepSeekSimulator(answers) as simulator:
        program = ended(command_of("19_log_and_redact.py", "Who?"), environment(simulator))
        assert not any("@" in str(message["content"]) for request in simulator.requests for message in request.messages)
    assert "Ada Lovelace <[mail address]>: 20 EUR" in program.stdout
    assert "open_bills {}: 2 addresses hidden\n" in program.stderr
    assert program.stderr.count("model: ") == 2


def test_20_crash_and_resume(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        last = str(request.last["content"])
        if request.turn == 0:
            return [call("send_parcel", number=number) for number in (1, 2, 3)]
        if request.turn == 1:
            outcomes = [str(message["content"]) for message in request.messages[-3:]]
            assert outcomes[0] == "parcel 1 is on its way"
            assert "unknown" in outcomes[1]
            return call("was_labelled", number=2)
        return f"Parcel 2 was labelled: {last}."

    with DeepSeekSimulator(answers) as simulator:
        command, env = command_of("20_crash_and_resume.py", "Send 1, 2 and 3"), environment(simulator, PYTHONUNBUFFERED="1")
        with subprocess.Popen(
            command, env=env, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as program:
            assert program.stdin
            assert program.stdout
            assert program.stdout.readline().startswith("parcel 1 is labelled")
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline().startswith("parcel 2 is labelled")
            program.kill()
        printed = run("20_crash_and_resume.py", simulator, typed="\n", folder=tmp_path)
        assert run("20_crash_and_resume.py", simulator, folder=tmp_path) == "Parcel 2 was labelled: true.\n"
    assert printed.startswith("parcel 3 is labelled")
    assert printed.endswith("Parcel 2 was labelled: true.\n")
    assert (tmp_path / "sent.txt").read_text().split() == ["1", "2", "3"]
