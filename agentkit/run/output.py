"""The output of an agent: text, or a value of a type against which the model's answer is validated."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .._dataclass import frozen_dataclass
from ..errors import ToolArgumentsInvalid, ToolDefinitionError
from ..messages import Assistant, ToolResult
from ..schema import Arguments, Signature, brief, described_as, one_key, result_schema, result_type, yields
from ..tools.tool import AnyTool, Tool, tool
from .state import RunState

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Answer", "FunctionOutput", "JsonOutput", "Output", "TextOutput", "ToolOutput", "Wrong", "output_of"]

FINAL_ANSWER = "final_answer"
_GIVE = "Give the final answer to the user. Call it once, when the answer is complete."
_CALL_IT = f"Give your answer by calling the tool {FINAL_ANSWER}, not as text"
_NO_CALL = f"the model wrote text instead of calling the tool {FINAL_ANSWER}"
_FENCE = re.compile(r"```(?:json)?[ \t\r]*\n", re.IGNORECASE)


@frozen_dataclass
class Answer:
    """A valid answer of the model, and its value."""

    value: Any


@frozen_dataclass
class Wrong:
    """An answer that does not fit. `feedback` tells the model what to correct, and `why` tells the developer what was wrong."""

    feedback: str
    why: str


Reading: TypeAlias = Answer | Wrong | None


class Output(Protocol):
    """How the model is asked for its answer, and how the answer is read."""

    @property
    def tool(self) -> AnyTool | None:
        """The tool with which the model answers, if there is one."""
        ...

    @property
    def instructions(self) -> str:
        """What the system message says about the answer."""
        ...

    @property
    def response_format(self) -> Literal["json_object"] | None:
        """The response format that the request asks for."""
        ...

    def is_due(self, state: RunState) -> bool:
        """Whether the state has an answer to read. Pure."""
        ...

    def read(self, state: RunState) -> Reading:
        """The answer in the state: its value, what is wrong with it, or None if the model has not answered yet."""
        ...


def _final_text(state: RunState) -> Assistant | None:
    last = state.messages[-1] if state.messages else None
    is_answer = isinstance(last, Assistant) and not last.tool_calls and len(state.messages) > state.new_from
    return last if is_answer else None  # type: ignore[return-value]


@frozen_dataclass
class TextOutput:
    """The answer is the text of the first reply without tool calls."""

    tool: None = None
    instructions: str = ""
    response_format: None = None

    def is_due(self, state: RunState) -> bool:
        """Whether the last reply is a text."""
        return _final_text(state) is not None

    def read(self, state: RunState) -> Reading:
        """The text of the last reply, or None."""
        reply = _final_text(state)
        return None if reply is None else Answer(reply.text)


class _Typed:
    """The JSON schema of a type, and its validation. A type that is not an object is wrapped as `{"answer": ...}`."""

    def __init__(self, output_type: Any) -> None:
        from pydantic.errors import PydanticUserError

        from ..schema.generator import adapter_of, validator_of

        if isinstance(output_type, str | Mapping):
            raise ToolDefinitionError(f"output_type {output_type!r} cannot be described to a model: give the type itself")
        try:
            described = described_as(output_type)
            validator = validator_of(adapter_of(described))
        except (PydanticUserError, TypeError, NameError, KeyError, AttributeError) as error:
            raise ToolDefinitionError(f"output_type {output_type!r} cannot be described to a model: {brief(error)}") from error
        self.takes_text = str in typing.get_args(output_type)
        """Whether a plain text is an answer: for `City | str`."""
        self.is_object = validator.schema.get("type") == "object"
        self.validator = replace(validator if self.is_object else one_key("answer", described), subject="answer")

    def validate(self, data: str) -> Any:
        """The value of a JSON text. Raises `ToolArgumentsInvalid`, which says what does not fit the schema."""
        value, _ = self.validator.parse(data, FINAL_ANSWER, words=False)
        return value if self.is_object else value["answer"]

    def read_text(self, text: str) -> Any:
        """The value of a text that is JSON, or JSON in one fence. If the type is not an object, a bare value is valid too."""
        try:
            return self.validate(text)
        except ToolArgumentsInvalid:
            if self.is_object:
                raise
            bare = text.strip()
            if (fence := _FENCE.match(bare)) and bare.endswith("```"):
                bare = bare[fence.end() : -3]
            with contextlib.suppress(ToolArgumentsInvalid):
                return self.validate(f'{{"answer": {bare}}}')
            if self.takes_text:
                return text
            raise


class _Fitting:
    """Reads the result of a `final` tool as an answer of the type, if it is one."""

    _typed: _Typed

    def fitting(self, final: Answer) -> Answer:
        """The answer as a value of the type; as it is, if it is none."""
        with contextlib.suppress(ToolArgumentsInvalid, TypeError, ValueError):
            return Answer(self._typed.read_text(json.dumps(final.value)))
        return final


class _Accepted(Signature):
    """The arguments of the call are the keys of the answer. The function gets the whole answer as one argument."""

    def parse(self, arguments: str | bytes, name: str = "") -> Arguments:
        """The answer, validated."""
        value, repairs = self.validator.parse(arguments, name)
        return Arguments({"answer": value}, repairs)


class ToolOutput(_Fitting):
    """The answer is the argument of a call of the tool `final_answer`. A text that is valid JSON of the type counts too."""

    response_format = None
    instructions = f"When you have the answer, give it by calling the tool {FINAL_ANSWER}."

    def __init__(self, output_type: Any) -> None:
        self._typed = _Typed(output_type)
        self.is_object = self._typed.is_object

    @cached_property
    def tool(self) -> AnyTool:
        """The tool `final_answer`, whose parameters are the answer."""

        async def final_answer(answer: Any) -> str:
            return "accepted"

        validator = self._typed.validator
        signature = _Accepted(_GIVE, validator)
        return Tool(final_answer, FINAL_ANSWER, _GIVE, signature, read_only=True, destructive=False, open_world=False)

    def is_due(self, state: RunState) -> bool:
        """Whether there is an accepted call, or a text."""
        return _final_text(state) is not None or _accepted_call(state) is not None

    def read(self, state: RunState) -> Reading:
        """The value of the accepted call, or of a text that is valid JSON of the type."""
        reply, accepted = _final_text(state), _accepted_call(state)
        try:
            if accepted is not None:
                return Answer(self._typed.validate(accepted[0]))
            return None if reply is None else Answer(self._typed.read_text(reply.text))
        except ToolArgumentsInvalid as error:
            return Wrong(f"{_CALL_IT} ({error}).", f"{_NO_CALL}, and {error}")


def _accepted_call(state: RunState) -> tuple[str, str] | None:
    """Arguments and result of the first `final_answer` call of the last reply whose result is not an error."""
    reply = state.last_reply
    if reply is None or state.calls or not isinstance(state.messages[-1], ToolResult):
        return None
    results = {m.call_id: m for m in state.messages[-len(reply.tool_calls) :] if isinstance(m, ToolResult)}
    calls = (c for c in reply.tool_calls if c.name == FINAL_ANSWER and c.id in results and not results[c.id].is_error)
    return next(((c.arguments, results[c.id].content) for c in calls), None)


class FunctionOutput:
    """The answer is the return value of a function, which the model calls once, as the tool `final_answer`.

    The call is recorded like any tool call. The answer is read from the record, so it is the same after a resume.
    """

    response_format = None
    instructions = ToolOutput.instructions

    def __init__(self, function: Callable[..., Any]) -> None:
        made = function if isinstance(function, Tool) else tool(function, name=FINAL_ANSWER)
        self._recorded = _Recorded(made.function)
        self.tool: AnyTool = replace(
            made,
            function=self._recorded.wrap(made.function, is_async=made.is_async),
            name=FINAL_ANSWER,
            description=f"{_GIVE}\n\n{made.description}".strip(),
            max_output=None,
            returns=False,
        )

    def is_due(self, state: RunState) -> bool:
        """Whether there is an accepted call, or a text."""
        return _final_text(state) is not None or _accepted_call(state) is not None

    def read(self, state: RunState) -> Reading:
        """The value that the function returned in the accepted call."""
        accepted = _accepted_call(state)
        if accepted is not None:
            return Answer(self._recorded.value_of(accepted[1]))
        return None if _final_text(state) is None else Wrong(f"{_CALL_IT}.", _NO_CALL)


class _Recorded:
    """Converts a function's return value to text and back. Raises `ToolDefinitionError` for a type that JSON cannot hold."""

    def __init__(self, function: Callable[..., Any]) -> None:
        from ..schema.generator import adapter_of

        name = getattr(function, "__qualname__", None) or repr(function)
        if yields(function):
            raise ToolDefinitionError(f"output_type: {name} yields; a function returns the answer")
        kind = result_type(function)
        if kind is None:
            raise ToolDefinitionError(
                f"output_type: {name} does not say what it returns; annotate it, as the answer is recorded"
            )
        result_schema(function)
        self._kind: TypeAdapter[Any] | None = None if kind is str else adapter_of(kind)

    def text_of(self, value: Any) -> str:
        """The value as text. It never fails: the function has taken effect, and must not be called again."""
        from pydantic_core import to_json

        if self._kind is None and isinstance(value, str):
            return value
        try:
            value = [*value] if isinstance(value, Iterator) else value  # it is read once, and more than one dump is tried
            return (self._kind.dump_json(value, warnings="error") if self._kind else to_json(value)).decode()
        except Exception:  # noqa: BLE001  not the annotated type, or the program's serializer failed
            with contextlib.suppress(ValueError):
                return to_json(value, fallback=repr).decode()
            return json.dumps(repr(value))

    def value_of(self, text: str) -> Any:
        """The value that `text_of` made this text of."""
        if self._kind is None:
            return text
        try:
            return self._kind.validate_json(text)
        except ValueError:  # pydantic's ValidationError
            return json.loads(text)

    def wrap(self, function: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        """A function that calls this one and returns its value as text."""

        async def call_async(*args: Any, **kwargs: Any) -> str:
            return self.text_of(await function(*args, **kwargs))

        async def awaited(value: Awaitable[Any]) -> str:
            return self.text_of(await value)

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            return awaited(value) if inspect.isawaitable(value) else self.text_of(value)

        return functools.wraps(function)(call_async if is_async else call_sync)


class JsonOutput(_Fitting):
    """The answer is a text that is one JSON object. The system message has the schema."""

    tool = None
    response_format: Literal["json_object"] = "json_object"

    def __init__(self, output_type: Any) -> None:
        self._typed = _Typed(output_type)
        self.is_object = self._typed.is_object

    @property
    def instructions(self) -> str:
        """The schema, and the word json, which servers require in the prompt."""
        schema = json.dumps(self._typed.validator.schema, ensure_ascii=False, separators=(",", ":"))
        return f"Give your final answer as one JSON object, and nothing else, that fits this JSON Schema:\n{schema}"

    def is_due(self, state: RunState) -> bool:
        """Whether the last reply is a text."""
        return _final_text(state) is not None

    def read(self, state: RunState) -> Reading:
        """The value of the text."""
        reply = _final_text(state)
        try:
            return None if reply is None else Answer(self._typed.read_text(reply.text))
        except ToolArgumentsInvalid as error:
            return Wrong(
                f"Your answer does not fit the JSON Schema: {error}\nAnswer again with the JSON object only.", str(error)
            )


def output_of(output_type: Any, mode: Literal["tool", "json_object"]) -> Output:
    """The output for a type: text for `str`, the return value for a function, and else by `mode`."""
    if isinstance(output_type, list | tuple):  # several types are one union
        if len(output_type) != 1 and (not output_type or any(map(_is_function, output_type))):
            allowed = "types in a list, or one function. For several functions, use tools=[tool(function, final=True), ...]"
            raise ToolDefinitionError(f"output_type is {output_type!r:.80}; allowed: {allowed}")
        output_type = typing.Union[tuple(output_type)] if len(output_type) > 1 else output_type[0]  # noqa: UP007
    if output_type is str:
        return TextOutput()
    if _is_function(output_type):
        return FunctionOutput(output_type)
    return ToolOutput(output_type) if mode == "tool" else JsonOutput(output_type)


def _is_function(output_type: Any) -> bool:
    return inspect.isroutine(output_type) or isinstance(output_type, functools.partial | Tool)
