"""The annotations of a function: evaluated, and replaced if pydantic refuses them or reads them differently."""

from __future__ import annotations

import collections.abc
import enum
import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

__all__ = ["annotated_function", "described_as", "type_hints", "without_factory"]

_LISTS = (
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Container,
    collections.abc.Reversible,
)
_ITERATORS = (collections.abc.Iterator, collections.abc.Generator)


def annotated_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that carries a callable's annotations, without partials, decorators and `__call__`."""
    while isinstance(inspect.unwrap(fn), functools.partial):
        fn = inspect.unwrap(fn).func
    fn = inspect.unwrap(fn)
    return fn if inspect.isroutine(fn) or inspect.isclass(fn) else inspect.unwrap(type(fn).__call__)


def type_hints(fn: Callable[..., Any], *, result: bool = False) -> dict[str, Any]:
    """The types of the parameters, or with `result` the type of the `return`.

    If an annotation cannot be evaluated, its value is the error.
    """
    source = annotated_function(fn)
    if inspect.isclass(source):
        if result:
            return {"return": source}
        return typing.get_type_hints(source, include_extras=True) | type_hints(source.__init__)
    annotations: dict[str, Any] = getattr(source, "__annotations__", {})
    wanted = {name: hint for name, hint in annotations.items() if (name == "return") is result}
    known = getattr(source, "__globals__", {})
    try:
        return _evaluated(wanted, known, None)
    except Exception:  # noqa: BLE001  an annotation may be any code, and may use local names
        enclosing = _enclosing_names(source)
        return {name: _evaluated_or_error(name, hint, known, enclosing) for name, hint in wanted.items()}


def _evaluated(annotations: dict[str, Any], known: dict[str, Any], enclosing: dict[str, Any] | None) -> dict[str, Any]:
    holder = types.SimpleNamespace(__annotations__=annotations)
    return typing.get_type_hints(holder, known, enclosing, include_extras=True)


def _evaluated_or_error(name: str, hint: Any, known: dict[str, Any], enclosing: dict[str, Any]) -> Any:
    try:
        return _evaluated({name: hint}, known, enclosing)[name]
    except Exception as error:  # noqa: BLE001
        return error


def _enclosing_names(fn: Callable[..., Any]) -> dict[str, Any]:
    """The function's type parameters, and the local names of its enclosing functions and classes on the current stack."""
    enclosing = getattr(fn, "__qualname__", "").split(".")[:-1]
    names: dict[str, Any] = {kind.__name__: kind for kind in getattr(fn, "__type_params__", ())}
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name in enclosing and code.co_filename == getattr(fn, "__code__", code).co_filename:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def described_as(annotation: Any) -> Any:
    """The annotation in the form that pydantic accepts; the same object if nothing is replaced.

    `Iterable` becomes a list: pydantic's own is lazy, and would fail in the middle of the function. `LiteralString` becomes a
    string. Enum members in a `Literal` become their values. Before Python 3.12, `typing.TypedDict` becomes the one of
    `typing_extensions`.
    """
    if annotation is typing.LiteralString:
        return str
    if annotation is bytearray:
        return _converted(bytes, bytearray)
    if typing.is_typeddict(annotation):
        return _typed_dict(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return _literal(annotation, args)
    if origin in _LISTS or annotation in _LISTS:
        return list[described_as(args[0]) if args else Any]  # type: ignore[misc]
    if origin in _ITERATORS or annotation in _ITERATORS:
        return _converted(list[described_as(args[0]) if args else Any], iter)  # type: ignore[misc]
    if origin is typing.Final:
        return described_as(args[0])
    return _rebuilt(annotation, origin, args) if args else annotation


def without_factory(annotation: Any) -> Any:
    """The annotation without the `default_factory` of its `Field`: the parameter's own default wins."""
    if not any(getattr(note, "default_factory", None) for note in getattr(annotation, "__metadata__", ())):
        return annotation
    from pydantic.fields import FieldInfo

    notes = [
        FieldInfo.merge_field_infos(note, default_factory=None) if isinstance(note, FieldInfo) else note
        for note in annotation.__metadata__
    ]
    return Annotated[(typing.get_args(annotation)[0], *notes)]


def _rebuilt(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    if origin is Annotated:
        inner = described_as(args[0])
        return annotation if inner is args[0] else Annotated[(inner, *annotation.__metadata__)]
    parts = tuple(described_as(part) for part in args)
    if all(new is old for new, old in zip(parts, args, strict=True)):
        return annotation
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, parts) if origin is types.UnionType else typing.Union[parts]  # noqa: UP007
    return types.GenericAlias(origin, parts) if isinstance(annotation, types.GenericAlias) else annotation.copy_with(parts)


def _converted(kind: Any, convert: Callable[[Any], Any]) -> Any:
    from pydantic import AfterValidator

    return Annotated[kind, AfterValidator(convert)]


def _literal(annotation: Any, options: tuple[Any, ...]) -> Any:
    """A `Literal` with the values of Enum members, since JSON has the values. Validated values become members again."""
    members = {_typed_key(option.value): option for option in options if isinstance(option, enum.Enum)}
    if not members or not all(isinstance(option.value, str | int) for option in members.values()):
        return annotation
    values = [option.value if isinstance(option, enum.Enum) else option for option in options]
    if len({*map(_typed_key, values)}) < len(options):
        raise TypeError(f"two of the values of {annotation} are written the same")
    return _converted(Literal[tuple(values)], lambda value: members.get(_typed_key(value), value))


def _typed_key(value: Any) -> tuple[type, Any]:
    """A dict key for the value that distinguishes true from 1."""
    return type(value), value


@functools.cache
def _typed_dict(kind: Any) -> Any:
    if sys.version_info >= (3, 12) or type(kind).__module__ == "typing_extensions":
        return kind
    import typing_extensions

    hints = typing.get_type_hints(kind, include_extras=True)
    required = kind.__required_keys__
    fields = {}
    for name, hint in hints.items():
        inner, needed = hint, name in required
        if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
            needed, inner = typing.get_origin(hint) is typing.Required, typing.get_args(hint)[0]
        inner = described_as(inner)
        fields[name] = typing_extensions.Required[inner] if needed else typing_extensions.NotRequired[inner]
    make: Any = typing_extensions.TypedDict  # its stub wants a literal name
    made = make(kind.__name__, fields)
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__
    return made
