"""A model that wraps another one: what the wrapped model tells about itself stays known, however often it is wrapped."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import MagicMock

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    Fallback,
    Limiter,
    Limits,
    Model,
    ModelInfo,
    ModelReply,
    ModelRequest,
    ModelSettings,
    ModelWrapper,
    Retry,
    RunFinished,
    ScriptedModel,
    SettingsError,
    tool,
)
from agentkit import errors as e
from agentkit.model import info_of
from agentkit.models.profiles import ANYFAST, DEEPSEEK, MISTRAL
from agentkit.models.retry import RetryingModel
from agentkit.models.wire import check
from agentkit.redact.keys import Hider, Secret
from tests.faults.rows import answer, status
from tests.models.raw_server import raw_server

URL = "http://127.0.0.1:9/v1"
KEY = "canaryKEY0001112223334445"
OTHER = "canaryKEY9998887776665554"
NOW = Retry(attempts=2, first=0, longest=0)


class Counting(ModelWrapper):
    """What a user writes."""

    count = 0

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        self.count += 1
        return await self.model.reply(request, on_delta)


def once(model: Model) -> Model:
    return Counting(model)


def twice(model: Model) -> Model:
    return Counting(Counting(model))


def in_a_fallback(model: Model) -> Model:
    return Fallback(Counting(model), Counting(model), retry=NOW)


def round_a_fallback(model: Model) -> Model:
    return Counting(Fallback(model, model, retry=NOW))


def round_retries(model: Model) -> Model:
    return Counting(RetryingModel(model, NOW))


def between_fallbacks(model: Model) -> Model:
    return Fallback(Counting(Fallback(model, model, retry=NOW)), model, retry=NOW)


Wrap = Callable[[Model], Model]
WRAPS: list[Wrap] = [once, twice, in_a_fallback, round_a_fallback, round_retries, between_fallbacks]
wrapped = pytest.mark.parametrize("wrap", WRAPS)


def priceless(**options: Any) -> ChatModel:
    return ChatModel("mistral-large", base_url=URL, profile=MISTRAL, **options)


@wrapped
def test_settings_are_checked_when_the_agent_is_made(wrap: Wrap) -> None:
    with pytest.raises(SettingsError, match="thinking is True; mistral allows only None"):
        Agent(wrap(priceless()), settings=ModelSettings(thinking=True))


@wrapped
def test_a_limit_on_cost_needs_a_price(wrap: Wrap) -> None:
    with pytest.raises(SettingsError, match="price of mistral-large on mistral is not known"):
        Agent(wrap(priceless()), limits=Limits(cost=1))
    agent = Agent(wrap(priceless(price=(1, 2))), limits=Limits(cost=1))
    assert agent.spec.price is not None and agent.spec.price.output == 2
    Agent(wrap(ChatModel("m", base_url=URL, profile=replace(MISTRAL, cost_in=("cost",)))), limits=Limits(cost=1))


@wrapped
def test_the_profile_says_how_typed_output_is_asked_for(wrap: Wrap) -> None:
    profile = replace(DEEPSEEK, output_mode="json_object")
    agent = Agent(wrap(ChatModel("m", base_url=URL, profile=profile)), output_type=int)
    assert agent.spec.settings.response_format == "json_object" and not agent.spec.offered
    assert [spec.name for spec in Agent(wrap(ChatModel("m", base_url=URL)), output_type=int).spec.offered] == ["final_answer"]


@wrapped
def test_the_key_is_in_no_event(wrap: Wrap) -> None:
    @tool
    def read_env() -> str:
        """Read the environment."""
        return f"KEY={KEY}"

    async def main() -> str:
        async with raw_server(lambda _n: answer(f"The key is {KEY}.")(False)) as server:
            agent = Agent(wrap(server.model(api_key=KEY)), tools=[read_env])
            result = await agent.run(f"My key is {KEY}")
            await agent.aclose()
            return f"{result!r} {result.state.to_json()}"

    said = asyncio.run(main())
    assert KEY not in said and said.count("[api key]") >= 3


@wrapped
def test_the_key_is_in_no_error(wrap: Wrap) -> None:
    class Broken(ModelWrapper):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            raise e.BadRequest(f"no: {KEY}")

    stored: list[Any] = []
    agent = Agent(wrap(Broken(ChatModel("m", base_url=URL, api_key=KEY))), retry=None)
    with pytest.raises(e.BadRequest):
        agent.run_sync("hi", observers=[stored.append])
    (finished,) = [event for event in stored if isinstance(event, RunFinished)]
    assert finished.error is not None and "[api key]" in finished.error and KEY not in finished.error


def test_the_keys_of_all_models_are_hidden() -> None:
    one, other = (ChatModel("m", base_url=URL, api_key=key) for key in (KEY, OTHER))
    hiders = info_of(Counting(Fallback(Counting(one), other))).hiders
    assert hiders == (one.hider, other.hider)


@wrapped
def test_closing_the_agent_closes_the_connections(wrap: Wrap) -> None:
    async def main() -> None:
        async with raw_server(lambda _n: answer()(False), keep_open=True) as server:
            agent = Agent(wrap(server.model()))
            counts = []
            for _ in range(2):
                for _ in range(2):
                    assert (await agent.run("hi")).output == "hello"
                    counts.append(server.connections)
                await agent.aclose()
            assert counts == [1, 1, 2, 2]

    asyncio.run(main())


@wrapped
def test_failures_are_retried_once_and_not_squared(wrap: Wrap) -> None:
    counting = Counting(ScriptedModel([e.Overloaded("busy"), *["well"] * 9]))
    agent = Agent(wrap(counting), retry=Retry(attempts=3, first=0, longest=0))
    assert agent.run_sync("hi").output == "well"
    assert counting.count == 2


def test_an_agent_does_not_retry_what_is_retried_inside() -> None:
    counting = Counting(ScriptedModel([e.Overloaded("busy")] * 9))
    for retrying in (RetryingModel(counting, NOW), round_retries(counting)):
        counting.count = 0
        with pytest.raises(e.Overloaded):
            Agent(retrying, retry=Retry(attempts=4, first=0, longest=0)).run_sync("hi")
        assert counting.count == 2


def test_a_fallback_passes_over_a_wrapped_model_whose_server_wants_to_be_left_alone() -> None:
    async def main() -> list[int]:
        async with AsyncExitStack() as stack:
            limited = await stack.enter_async_context(raw_server(lambda _n: status(429, headers="Retry-After: 30\r\n")))
            down = await stack.enter_async_context(raw_server(lambda _n: status(503)))
            well = await stack.enter_async_context(raw_server(lambda _n: answer()(False)))
            breaking = down.model(limiter=Limiter(failures=1, pause=30))
            model = Fallback(twice(limited.model()), once(breaking), once(well.model()), retry=NOW)
            for _ in range(3):
                assert (await Agent(model).run("hi")).output == "hello"
            await model.aclose()
            return [len(server.bodies) for server in (limited, down, well)]

    assert asyncio.run(main()) == [1, 1, 3]


def test_a_wrapped_fallback_is_passed_over_when_none_of_its_servers_may_be_asked() -> None:
    async def main() -> tuple[int, float]:
        async with AsyncExitStack() as stack:
            limited, other = [
                await stack.enter_async_context(raw_server(lambda _n: status(429, headers="Retry-After: 30\r\n")))
                for _ in range(2)
            ]
            well = await stack.enter_async_context(raw_server(lambda _n: answer()(False)))
            inner = Counting(Fallback(limited.model(), other.model(), retry=None))
            half = Counting(Fallback(limited.model(), well.model(), retry=NOW))
            model = Fallback(inner, well.model(), retry=NOW)
            for _ in range(2):
                assert (await Agent(model).run("hi")).output == "hello"
            await model.aclose()
            assert info_of(model).closed_for() == info_of(half).closed_for() == 0.0, "one of its servers may be asked"
            return inner.count, info_of(inner).closed_for()

    count, seconds = asyncio.run(main())
    assert count == 1 and 20 < seconds <= 30


def test_attributes_of_the_model_are_those_of_the_wrapper() -> None:
    model = ChatModel("m", base_url=URL, api_key="k" * 20)
    wrapper: Any = twice(model)
    assert (wrapper.name, wrapper.endpoint, wrapper.limiter) == ("m", model.endpoint, model.limiter)
    assert repr(wrapper) == f"Counting(Counting({model!r}))"
    with pytest.raises(AttributeError, match="'ChatModel' object has no attribute 'nope'"):
        _ = wrapper.nope


def test_a_wrapper_can_be_copied_and_pickled_as_far_as_its_model_can() -> None:
    model = ChatModel("m", base_url=URL, profile="vllm")
    wrapper = Counting(model)
    wrapper.count = 3
    for other in (copy.copy(wrapper), copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        assert isinstance(other, Counting) and other is not wrapper
        assert (other.count, other.info.name, other.endpoint) == (3, "m", model.endpoint)
    assert copy.copy(wrapper).model is model and copy.deepcopy(wrapper).model is not model
    agent = copy.deepcopy(Agent(round_a_fallback(wrapper)))
    assert isinstance(agent.model, Counting) and info_of(agent.model).name == "m"
    with pytest.raises(TypeError, match="a ChatModel with its own api_key cannot be pickled"):
        pickle.dumps(Counting(ChatModel("m", base_url=URL, api_key=KEY)))


def test_a_wrapper_changes_its_info_by_overriding_it() -> None:
    class Local(ModelWrapper):
        @property
        def info(self) -> ModelInfo:
            return replace(super().info, unpriced=())

    assert Agent(Local(priceless()), limits=Limits(cost=1)).spec.price is None


def test_a_mistake_in_a_wrapper_is_not_taken_for_a_missing_attribute() -> None:
    class NoInit(ModelWrapper):
        def __init__(self, model: Model) -> None:
            self.inner = model

    class Misspelt(ModelWrapper):
        @property
        def info(self) -> ModelInfo:
            return replace(self.modle.info, unpriced=())  # type: ignore[no-any-return]

    with pytest.raises(SettingsError, match=r"NoInit has no model yet; its __init__ must call super\(\).__init__\(model\)"):
        Agent(NoInit(priceless()))
    with pytest.raises(AttributeError, match="info"):
        Agent(Misspelt(priceless()))


@pytest.mark.parametrize("wrong", ["gpt", None, ChatModel, 3])
def test_what_is_no_model_cannot_be_wrapped(wrong: Any) -> None:
    with pytest.raises(SettingsError, match=r"Counting wraps .*; allowed: a model with `reply`"):
        Counting(wrong)


def test_a_dataclass_can_be_a_wrapper() -> None:
    @dataclass
    class Bounded(ModelWrapper):
        model: Model
        left: int = 1

        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            self.left -= 1
            return await self.model.reply(request, on_delta)

    bounded = Bounded(ScriptedModel(["hello"]))
    assert Agent(bounded).run_sync("hi").output == "hello" and bounded.left == 0
    assert info_of(Bounded(priceless())).unpriced == ("mistral-large on mistral",)


class Plain:
    """A model that is no wrapper, and has nothing but `reply`."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        return ModelReply(Assistant(f"hello {KEY}"))


@dataclass(slots=True)
class Slotted:
    model: Model

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        return await self.model.reply(request, on_delta)


def test_an_object_with_only_reply_is_a_model() -> None:
    assert info_of(Plain()) == ModelInfo() and isinstance(Plain(), Model)
    agent = Agent(Plain(), settings=ModelSettings(thinking=True), limits=Limits(cost=1))
    assert agent.run_sync("hi").output == f"hello {KEY}"
    asyncio.run(agent.aclose())
    assert Agent(Counting(Plain())).run_sync("hi").output == f"hello {KEY}"
    assert Agent(Fallback(Plain(), Plain())).run_sync("hi").output == f"hello {KEY}"


def test_the_keys_of_models_that_a_plain_model_holds_are_hidden() -> None:
    one, other = (ChatModel("m", base_url=URL, api_key=key) for key in (KEY, OTHER))
    assert info_of(Plain(model=Plain(models=[Plain(model=one), other, "text"]))).hiders == (one.hider, other.hider)
    assert info_of(Plain(_inner=Plain(wrapped=one), backups=(Counting(other),))).hiders == (one.hider, other.hider)
    assert info_of(Slotted(one)).hiders == (one.hider,)
    assert Agent(Plain(model=Counting(one))).run_sync("hi").output == "hello [api key]"


@pytest.mark.parametrize(
    "parts", [{"model": "gpt-4"}, {"models": "abc"}, {"models": list}, {"info": "text"}, {"info": {"name": "m"}}]
)
def test_attributes_of_other_kinds_mean_nothing(parts: dict[str, Any]) -> None:
    assert info_of(Plain(**parts)) == ModelInfo()


def test_a_mock_and_a_model_that_holds_itself_have_no_info() -> None:
    itself = Plain()
    vars(itself)["model"] = itself
    assert info_of(itself) == info_of(MagicMock()) == ModelInfo()


def test_a_wrapper_forwards_the_whole_info() -> None:
    info = ModelInfo(name="own", price=priceless(price=(1, 2)).info.price, closed_for=lambda: 3.0)
    assert Counting(Counting(Plain(info=info))).info is info
    assert replace(RetryingModel(Plain(info=info), NOW).info, makes_retries=False) == info


def test_a_model_of_the_users_own_can_tell_about_itself() -> None:
    class Own(Plain):
        @property
        def info(self) -> ModelInfo:
            return ModelInfo(
                name="own",
                output_mode="json_object",
                unpriced=("own on a server",),
                check=lambda request: check(request, MISTRAL),
                hiders=(Hider([Secret(KEY)]),),
            )

    assert Agent(Own()).run_sync("hi").output == "hello [api key]"
    assert not Agent(Own(), output_type=int).spec.offered
    with pytest.raises(SettingsError, match="price of own on a server is not known"):
        Agent(Own(), limits=Limits(cost=1))
    with pytest.raises(SettingsError, match="thinking is True"):
        Agent(Own(), settings=ModelSettings(thinking=True))


def test_the_info_of_a_chat_model_is_that_of_its_profile() -> None:
    info = ChatModel("deepseek-v4-flash", base_url=URL, profile=DEEPSEEK).info
    assert (info.name, info.output_mode, info.unpriced, info.makes_retries, info.closed_for()) == (
        "deepseek-v4-flash", "tool", (), False, 0.0,
    )  # fmt: skip
    assert info.price == max(DEEPSEEK.price_of("deepseek-v4-flash"), key=lambda price: price.since)
    dearer = ChatModel("m", base_url=URL, price=(1, 999))
    assert Fallback(ChatModel("m", base_url=URL, price=(1, 2)), dearer).info.price == dearer.info.price
    assert KEY not in repr(ChatModel("m", base_url=URL, api_key=KEY).info)
    assert ChatModel("m", base_url=URL, profile=ANYFAST).info.output_mode == ANYFAST.output_mode
