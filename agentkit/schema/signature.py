"""The description of a function for a model: a JSON Schema of its arguments, and the validation of the model's text."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, ClassVar

import typing_extensions

from .._dataclass import frozen_dataclass
from ..errors import ToolArgumentsInvalid, ToolDefinitionError, ToolDefinitionWarning
from .annotations import annotated_function, described_as, type_hints, without_factory
from .context import filled
from .docstrings import Docstring, read_docstring
from .node import follow
from .parse import Validator

__all__ = ["Arguments", "Signature", "brief", "describe", "described", "label_of", "one_key"]


@frozen_dataclass
class Arguments:
    """Validated arguments by parameter name; entries of `**kwargs` by their own names."""

    values: dict[str, Any]
    repairs: tuple[str, ...] = ()
    """Repairs and conversions of the model's text; empty if it was correct."""
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The JSON object that was validated: the model's own, repaired, and without defaults."""


@frozen_dataclass
class Signature:
    """A function as a model sees it.

    `description` is the docstring without its sections. `validator` has the JSON Schema of the arguments, which refuses unknown
    keys unless the function takes `**kwargs`. `context` maps the parameters that the framework fills to their classes.
    """

    is_of_function: ClassVar = True
    """Whether it was read from a Python function, and not given as a schema."""

    description: str
    validator: Validator
    context: Mapping[str, type] = field(default_factory=dict)
    returns: str = ""
    """The docstring's description of the result."""
    _positional: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that are given by position, with the defaults of those that are left out of the schema."""
    _variadic: str | None = None
    _bound: frozenset[str] = frozenset()

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
        return self.validator.schema

    def bind(self, arguments: Arguments, context: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The `positional` and `keyword` of the call `fn(*positional, **keyword)`; context parameters get `context`."""
        keyword = {**arguments.values, **{name: filled(kind, context) for name, kind in self.context.items()}}
        positional = tuple(keyword.pop(name, default) for name, default in self._positional.items())
        return positional + (tuple(keyword.pop(self._variadic, ())) if self._variadic else ()), keyword

    def parse(self, arguments: str | bytes, name: str = "") -> Arguments:
        """The arguments from JSON text, with their annotated types. Raises as `Validator.parse` does."""
        values, repairs, given = self.validator.parse_all(arguments, name)
        if taken := [key for key in values if key in self._bound or key in self.context]:  # **kwargs would accept them
            known = ", ".join(self.parameters.get("properties", ())) or "none"
            raise ToolArgumentsInvalid(f"{taken[0]}: not a parameter that can be given; known: {known}")
        return Arguments(values, repairs, given)


def describe(fn: Callable[..., Any], *, context_of: Callable[[Any], type | None] = lambda annotation: None) -> Signature:
    """The signature of `fn` for a model.

    Parameters for which `context_of` returns a class are omitted, as are parameters that a partial binds by name. Raises
    `ToolDefinitionError` for a parameter that no schema can describe. The message names the function, the parameter and the
    remedy.
    """
    label = label_of(fn)
    signature, hints = _read(label, fn)
    docstring = _docstring(fn)
    parameters = signature.parameters.values()
    variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    by_position = {inspect.Parameter.POSITIONAL_ONLY} | ({inspect.Parameter.POSITIONAL_OR_KEYWORD} if variadic else set())
    bound = fn.keywords if isinstance(fn, functools.partial) else {}
    context: dict[str, type] = {}
    fields = []
    for parameter in parameters:
        annotation = described(hints.get(parameter.name, _inferred(parameter)))
        try:
            kind = context_of(annotation)
        except TypeError as error:
            raise ToolDefinitionError(f"{label}: parameter {parameter.name!r}: {error}") from None
        if kind is not None:
            context[parameter.name] = kind
        elif parameter.name not in bound:
            fields.append(_field(parameter, annotation))
    validator = _compile_describable(label, fn, fields)
    _add_descriptions(validator.schema, hints, docstring.parameters, variadic=_variadic_name(signature))
    _check_aliases(label, fields)
    _warn_of_unknown(label, fn, docstring.parameters, signature)
    positional = {p.name: p.default for p in parameters if p.kind in by_position}
    return Signature(docstring.text, validator, context, docstring.returns, positional, variadic, frozenset(bound))


def _check_aliases(label: str, fields: list[inspect.Parameter]) -> None:
    """Refuse an alias that gives a parameter two names: `**kwargs` would accept the other one."""
    names = {parameter.name: parameter.name for parameter in fields}
    for parameter in fields:
        for note in getattr(parameter.annotation, "__metadata__", ()):
            alias = getattr(note, "validation_alias", None) or getattr(note, "alias", None)
            if alias is None:
                continue
            if not isinstance(alias, str) or alias in names or any(f.kind is f.VAR_KEYWORD for f in fields):
                raise ToolDefinitionError(
                    f"{label}: parameter {parameter.name!r}: its alias {alias!r} does not work here; use one text that no "
                    "other parameter has, in a function without **kwargs, or rename the parameter"
                )
            names[alias] = parameter.name


def _read(label: str, fn: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """The function's signature, and the types of its parameters."""
    try:
        signature, hints = inspect.signature(_without_origin(fn)), type_hints(fn)
    except (TypeError, ValueError) as error:
        remedy = "wrap it in a function with annotated parameters"
        raise ToolDefinitionError(f"{label}: its signature cannot be read: {error}; {remedy}") from error
    for name, hint in hints.items():
        if isinstance(hint, Exception) and signature.parameters[name].default is inspect.Parameter.empty:
            is_unknown = isinstance(hint, NameError)
            remedy = "define or import it at run time, in the module of the function" if is_unknown else "fix its annotation"
            raise ToolDefinitionError(f"{label}: parameter {name!r}: {hint}; {remedy}") from hint
    first = next(iter(signature.parameters), "")
    if first in ("self", "cls") and first not in hints:
        raise ToolDefinitionError(f"{label}: parameter {first!r}: a method has no object yet; use tool(object.method) instead")
    return signature, hints


def _without_origin(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A partial without the mark of `functools.update_wrapper`, for which its signature would be that of the whole function."""
    is_marked = isinstance(fn, functools.partial) and hasattr(fn, "__wrapped__")
    return functools.partial(fn.func, *fn.args, **fn.keywords) if is_marked else fn  # type: ignore[attr-defined]


def described(hint: Any) -> Any:
    """The annotation in the form that pydantic accepts, or the error."""
    if isinstance(hint, Exception):
        return hint
    try:
        return described_as(hint)
    except Exception as error:  # noqa: BLE001  a type may run any code
        return error


def _inferred(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    return Any if default is parameter.empty or default is None else type(default)


def _field(parameter: inspect.Parameter, annotation: Any) -> inspect.Parameter:
    """The parameter as keyword-only, since a model names its arguments; `*args` becomes a list."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return inspect.Parameter(parameter.name, parameter.KEYWORD_ONLY, default=[], annotation=list[annotation])
    if parameter.default is not parameter.empty:
        annotation = without_factory(annotation)
    kind = parameter.VAR_KEYWORD if parameter.kind is parameter.VAR_KEYWORD else parameter.KEYWORD_ONLY
    return parameter.replace(kind=kind, annotation=annotation)


def _compile_describable(label: str, fn: Callable[..., Any], fields: list[inspect.Parameter]) -> Validator:
    """As `_compile`, without the optional parameters that cannot be described. Each omitted parameter is a warning."""
    try:
        return _compile(label, fields)
    except ToolDefinitionError:
        kept = []
        for field in fields:
            try:
                _compile(label, [field])
                kept.append(field)
            except ToolDefinitionError as error:
                if field.default is field.empty:
                    raise
                _warn(fn, f"{error}; it is left out and keeps its default")
        if len(kept) == len(fields):
            raise
        return _compile(label, kept)


def _compile(label: str, fields: list[inspect.Parameter]) -> Validator:
    """A strict validator and a schema for these keyword parameters."""
    from pydantic import ConfigDict

    from .generator import adapter_of, validator_of

    def collect(**values: Any) -> dict[str, Any]:
        return values

    collect.__signature__ = inspect.Signature(fields)  # type: ignore[attr-defined]
    collect.__annotations__ = {field.name: field.annotation for field in fields}
    try:
        validator = validator_of(adapter_of(collect, ConfigDict(allow_inf_nan=False)))
    except Exception as error:
        if len(fields) == 1:
            annotation = fields[0].annotation
            why = "" if isinstance(annotation, Exception) else f" ({brief(error)})"
            raise ToolDefinitionError(
                f"{label}: parameter {fields[0].name!r} of type {_type_name(annotation)} cannot be described to a model; use a "
                f"type that JSON can hold, a pydantic model or a dataclass{why}"
            ) from error
        raise ToolDefinitionError(f"{label}: its parameters cannot be described to a model: {brief(error)}") from error
    return replace(validator, schema=_with_unpacked_keys(validator.schema, fields))


_UNPACKS = (typing.Unpack, typing_extensions.Unpack)


def _with_unpacked_keys(schema: dict[str, Any], fields: list[inspect.Parameter]) -> dict[str, Any]:
    """The schema with the keys of the class in `**kwargs: Unpack[SomeTypedDict]`, which pydantic nests."""
    rest: dict[str, Any] = schema.get("additionalProperties") or {}
    if not any(f.kind is f.VAR_KEYWORD and typing.get_origin(f.annotation) in _UNPACKS for f in fields):
        return schema
    keys = follow(schema, rest)
    if "$ref" in rest and str(schema).count(f"'{rest['$ref']}'") == 1:
        del schema["$defs"][rest["$ref"].rpartition("/")[2]]
    required = [*schema.get("required", ()), *keys.get("required", ())]
    flat = {**schema, "properties": {**schema["properties"], **keys["properties"]}, "required": required}
    flat["additionalProperties"] = keys.get("additionalProperties", False)
    return {key: value for key, value in flat.items() if value or key not in ("$defs", "required")}


def one_key(name: str, annotation: Any) -> Validator:
    """A validator of an object with this one key."""
    return _compile(name, [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)])


def label_of(fn: Callable[..., Any]) -> str:
    """The function's name in messages."""
    return getattr(fn, "__qualname__", None) or repr(fn)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, Exception):
        return f"unknown ({annotation})"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def brief(error: Exception) -> str:
    """The first sentence of a library's error, without its links."""
    first, *rest = (str(error) or type(error).__name__).splitlines()
    if first.endswith(":") and rest:
        first += f" {rest[-1].strip()}"
    return first.partition(". ")[0].rstrip(".")


def _docstring(fn: Callable[..., Any]) -> Docstring:
    if isinstance(fn, functools.partial) and "__doc__" not in vars(fn):  # its class has a text, about partials
        fn = fn.func
    text = inspect.getdoc(fn)
    return read_docstring(text) if text else Docstring()


def _warn_of_unknown(label: str, fn: Callable[..., Any], documented: Mapping[str, str], signature: inspect.Signature) -> None:
    if inspect.isclass(fn) or not documented:
        return
    unknown = [name for name in documented if name not in signature.parameters]
    if unknown:  # a partial has fewer parameters
        known = inspect.signature(annotated_function(fn)).parameters
        unknown = [name for name in unknown if name not in known]
    if unknown and not _variadic_name(signature):
        _warn(fn, f"{label}: its docstring describes {', '.join(unknown)}, which it does not take")


def _warn(fn: Callable[..., Any], text: str) -> None:
    """Warn at the line where the function is defined."""
    source = annotated_function(fn)
    code = getattr(source, "__code__", None)
    if code is None:
        warnings.warn(text, ToolDefinitionWarning, stacklevel=4)
    else:
        warnings.warn_explicit(text, ToolDefinitionWarning, code.co_filename, code.co_firstlineno, source.__module__)


def _variadic_name(signature: inspect.Signature) -> str:
    """The name of the `**kwargs` parameter; empty if there is none."""
    return next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), "")


def _add_descriptions(
    schema: dict[str, Any], hints: Mapping[str, Any], documented: Mapping[str, str], *, variadic: str
) -> None:
    """Add descriptions to the properties: the Field's own, else plain text in `Annotated`, else the docstring's."""
    for name, prop in schema.get("properties", {}).items():
        notes = [getattr(note, "documentation", note) for note in getattr(hints.get(name), "__metadata__", ())]
        text = next((" ".join(note.split()) for note in notes if isinstance(note, str)), documented.get(name))
        if text:
            prop.setdefault("description", text)
    rest = schema.get("additionalProperties", True)
    if variadic in documented and rest is not False:
        schema["additionalProperties"] = {**(rest if isinstance(rest, dict) else {}), "description": documented[variadic]}
