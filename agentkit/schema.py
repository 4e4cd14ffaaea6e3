"""A function's signature and docstring, as JSON Schema and as a validator of the arguments that a model writes."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ToolArgumentsInvalid, ToolDefinitionError

__all__ = ["Arguments", "Signature", "describe", "explain", "lean"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """Validated arguments: each parameter's name (a `**kwargs` entry's own name) with its value."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as a model sees it.

    `parameters` is the JSON Schema of its arguments (an object, closed unless the function takes `**kwargs`);
    `description` the docstring without its sections; `context` the names of the parameters that the framework fills.
    """

    description: str
    parameters: dict[str, Any]
    context: tuple[str, ...]
    _validate: Callable[[str | bytes], dict[str, Any]]
    _positional: tuple[str, ...]
    _variadic: str | None

    def bind(self, arguments: Arguments, context: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the function with, `fn(*positional, **keyword)`; context parameters get `context`."""
        keyword = {**arguments.values, **dict.fromkeys(self.context, context)}
        positional = tuple(keyword.pop(name) for name in self._positional)
        return positional + (tuple(keyword.pop(self._variadic)) if self._variadic else ()), keyword

    def parse(self, arguments: str | bytes) -> Arguments:
        """The arguments of JSON text, each as its annotated type; empty text counts as no arguments.

        Raises `ToolArgumentsInvalid` with a message that names each wrong parameter, its value and what is expected.
        """
        from pydantic import ValidationError

        try:
            values = self._validate(arguments if arguments.strip() else b"{}")
        except ValidationError as error:
            raise ToolArgumentsInvalid(explain(error, self.parameters)) from None
        except RecursionError:
            raise ToolArgumentsInvalid("the arguments are nested too deeply") from None
        return Arguments(values)


def describe(fn: Callable[..., Any], *, is_context: Callable[[Any], bool] = lambda annotation: False) -> Signature:
    """What a model has to know of `fn`, built once.

    Parameters whose annotation satisfies `is_context` are left out. Raises `ToolDefinitionError` where no schema can
    describe a parameter; the message names the function, the parameter and the remedy.
    """
    label = getattr(fn, "__qualname__", None) or repr(fn)
    try:
        signature, hints = inspect.signature(fn), _type_hints(fn)
    except (NameError, TypeError, ValueError) as error:
        raise ToolDefinitionError(f"{label}: its signature cannot be read: {error}") from error
    summary, documented = _docstring(fn)
    parameters = signature.parameters.values()
    variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    by_position = {inspect.Parameter.POSITIONAL_ONLY} | ({inspect.Parameter.POSITIONAL_OR_KEYWORD} if variadic else set())
    context, fields = [], []
    for parameter in parameters:
        annotation = hints.get(parameter.name, _inferred(parameter))
        if is_context(annotation):
            context.append(parameter.name)
        else:
            fields.append(_field(parameter, annotation))
    validate, schema = _compile(label, fields)
    _add_descriptions(schema, hints, documented)
    positional = tuple(p.name for p in parameters if p.kind in by_position)
    return Signature(summary, schema, tuple(context), validate, positional, variadic)


def _type_hints(fn: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn) and not inspect.isclass(fn):
        fn = type(fn).__call__
    return typing.get_type_hints(inspect.unwrap(fn), include_extras=True)


def _inferred(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    return Any if default is parameter.empty or default is None else type(default)


def _field(parameter: inspect.Parameter, annotation: Any) -> inspect.Parameter:
    """The parameter as one that is passed by name, since a model names its arguments; `*args` becomes a list."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return inspect.Parameter(parameter.name, parameter.KEYWORD_ONLY, default=[], annotation=list[annotation])
    kind = parameter.VAR_KEYWORD if parameter.kind is parameter.VAR_KEYWORD else parameter.KEYWORD_ONLY
    return parameter.replace(kind=kind, annotation=annotation)


def _compile(label: str, fields: list[inspect.Parameter]) -> tuple[Callable[[str | bytes], Any], dict[str, Any]]:
    """A validator and a schema for these keyword parameters."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    def collect(**values: Any) -> dict[str, Any]:
        return values

    collect.__signature__ = inspect.Signature(fields)  # type: ignore[attr-defined]
    collect.__annotations__ = {field.name: field.annotation for field in fields}
    try:
        # pydantic describes the call of a function as well as a type; its stub speaks of types only
        described: Any = collect
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(described, config=ConfigDict(allow_inf_nan=False))
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        if len(fields) == 1:
            raise ToolDefinitionError(
                f"{label}: parameter {fields[0].name!r} of type {_type_name(fields[0].annotation)} cannot be described "
                "to a model; use a type that JSON can hold, a pydantic model or a dataclass"
            ) from error
        for field in fields:
            _compile(label, [field])
        raise ToolDefinitionError(f"{label}: its parameters cannot be described to a model: {error}") from error
    return adapter.validate_json, lean(schema)


def _type_name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def _docstring(fn: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The docstring's text without its sections, and the description of each parameter."""
    text = inspect.getdoc(fn.func if isinstance(fn, functools.partial) else fn)
    if not text:
        return "", {}
    from docstring_parser import parse

    parsed = parse(text)
    described = {p.arg_name.lstrip("*"): p.description for p in parsed.params if p.description}
    return (parsed.description or "").strip(), described


def _add_descriptions(schema: dict[str, Any], hints: Mapping[str, Any], documented: Mapping[str, str]) -> None:
    """A Field's description comes first, then plain text in `Annotated`, then the docstring."""
    for name, prop in schema.get("properties", {}).items():
        notes = getattr(hints.get(name), "__metadata__", ())
        text = next((note for note in notes if isinstance(note, str)), documented.get(name))
        if text:
            prop.setdefault("description", " ".join(text.split()))


def lean(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles, which only cost tokens. Properties that are called title stay."""

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        result = {}
        for key, value in node.items():
            if key == "title" and isinstance(value, str):
                continue
            if key in ("properties", "$defs", "patternProperties") and isinstance(value, dict):
                result[key] = {name: walk(sub) for name, sub in value.items()}
            else:
                result[key] = value if key in ("default", "const", "enum", "examples") else walk(value)
        return result

    cleaned: dict[str, Any] = walk(schema)
    return cleaned


def explain(error: Any, parameters: Mapping[str, Any]) -> str:
    """A ValidationError in words for the model: parameter, value, what is expected, and the parameter's schema."""
    problems, schemas = [], {}
    known = list(parameters.get("properties", {}))
    for item in error.errors(include_url=False, include_context=False)[:5]:
        if item["type"] == "json_invalid":
            return f"the arguments are not valid JSON: {item['msg'].removeprefix('Invalid JSON: ')}"
        path = item["loc"]
        name = ".".join(str(part) for part in path)
        if item["type"] == "missing_keyword_only_argument":
            problems.append(f"{name}: required, but missing")
        elif item["type"] == "unexpected_keyword_argument":
            problems.append(f"{name}: unknown parameter; known: {', '.join(known) or 'none'}")
        else:
            shown = f" (got {_shown(item['input'])})" if path else ""
            problems.append(f"{name or 'arguments'}: {item['msg']}{shown}")
        if path and path[0] in known:
            schemas[path[0]] = parameters["properties"][path[0]]
    hint = f"\nschema: {json.dumps(schemas, ensure_ascii=False)}" if schemas else ""
    return "; ".join(problems) + hint[:1000]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
