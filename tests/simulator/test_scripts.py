"""Where answers come from: functions and lists, what is kept of the requests, and mistakes of the test itself."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import AgentError
from agentkit.testing import DeepSeekSimulator, SimRequest, call

from .helpers import USER, body, client, post, tool

TOOLS = {"tools": [tool()]}


def test_a_function_answers() -> None:
    def answer(request: SimRequest) -> str:
        return f"{request.turn} {request.last['content']} {len(request.tools)} {request.headers['x-mine']}"

    with client(DeepSeekSimulator(answer)) as http:
        messages = [USER, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}]
        answered = http.post("/chat/completions", json=body(messages=messages, **TOOLS), headers={"X-Mine": "yes"})
    assert answered.json()["choices"][0]["message"]["content"] == "1 Bye 1 yes"


def test_a_list_may_hold_functions() -> None:
    sim = DeepSeekSimulator(["one", lambda request: f"two {request.turn}"])
    assert [post(sim).json()["choices"][0]["message"]["content"] for _ in range(2)] == ["one", "two 0"]


def test_requests_and_errors_are_kept() -> None:
    sim = DeepSeekSimulator(["one"])
    post(sim, temperature=3)
    assert post(sim, messages=[{"role": "user", "content": "Second"}]).status_code == 200
    assert [request.last["content"] for request in sim.requests] == ["Hi", "Second"]
    assert sim.requests[0].body["temperature"] == 3
    assert b'"temperature":3' in sim.requests[0].raw
    assert [error.message for error in sim.errors] == ["Invalid temperature value, the valid range of temperature is [0, 2]"]


def test_requests_need_not_be_kept() -> None:
    sim = DeepSeekSimulator(["one"], keep_requests=False)
    assert post(sim).status_code == 200
    assert sim.requests == []


def broken(_request: SimRequest) -> str:
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    ("script", "fields", "text"),
    [
        ([], {}, "simulator: the script has 0 replies and one more request came; add a reply"),
        (
            [call("get_weather")],
            {},
            "simulator: the reply calls get_weather, but the request offers no tools; give the agent its tools",
        ),
        ([3], {}, "simulator: 3 is not a reply: use a text, call(...), calls, an Assistant, Failure, Raw, ..."),
        (broken, {}, "simulator: the answer raised ZeroDivisionError('oh')"),
    ],
)
def test_a_mistake_of_the_test_is_told(script: Any, fields: dict[str, Any], text: str) -> None:
    sim = DeepSeekSimulator(script)
    answer = post(sim, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": text,
        "type": "simulator_error",
        "param": None,
        "code": "simulator_error",
    }
    assert [error.message for error in sim.errors] == [text]


def test_an_unknown_scenario_is_an_error_that_lists_them() -> None:
    with pytest.raises(AgentError, match=r"no scenario is named 'Hello'; there are: busy, content_filter, .*\['Hello'\]"):
        DeepSeekSimulator("Hello")
