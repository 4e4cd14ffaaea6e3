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
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import typing_extensions

from .owners import class_names, with_type_arguments

__all__ = ["ALIASES", "annotated_function", "caller_names", "described_as", "type_hints", "without_factory"]

_LISTS = (
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Container,
    collections.abc.Reversible,
)
_ITERATORS = (collections.abc.Iterator, collections.abc.Generator)
_READ_ONLY = (typing_extensions.ReadOnly, getattr(typing, "ReadOnly", typing_extensions.ReadOnly))
_QUALIFIERS = (typing.Required, typing.NotRequired, *_READ_ONLY)
ALIASES: tuple[type, ...] = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)
"""The classes of `type X = ...`: before Python 3.12, `typing` has none."""


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
        hints = _evaluated(wanted, known, None)
    except Exception:  # noqa: BLE001  an annotation may be any code, and may use local names
        enclosing = {**class_names(fn, source, known), **_enclosing_names(source)}
        hints = {name: _evaluated_or_error(name, hint, known, enclosing) for name, hint in wanted.items()}
    return with_type_arguments(hints, fn, source)


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
    for frame in _frames():
        code = frame.f_code
        if code.co_name in enclosing and code.co_filename == getattr(fn, "__code__", code).co_filename:
            names = {**frame.f_locals, **names}
    return names


def _frames() -> Iterator[types.FrameType]:
    """The frames of the current stack, innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def caller_names() -> dict[str, Any]:
    """The types among the local names of the functions on the current stack; inner ones win.

    A class that is defined in a function may name others of that function in annotations that are text.
    """
    names: dict[str, Any] = {}
    for frame in _frames():
        if frame.f_locals is not frame.f_globals:
            names = {**{name: value for name, value in frame.f_locals.items() if _is_type(value)}, **names}
    return names


def _is_type(value: Any) -> bool:
    named = (type, typing.NewType, typing.TypeVar, *ALIASES)
    return isinstance(value, named) or typing.get_origin(value) is not None


def described_as(annotation: Any, parents: tuple[Any, ...] = ()) -> Any:
    """The annotation in the form that pydantic accepts; the same object if nothing is replaced.

    `Iterable` becomes a list: pydantic's own is lazy, and would fail in the middle of the function. `LiteralString` becomes a
    string. Enum members in a `Literal` become their values. Before Python 3.12, `typing.TypedDict` becomes the one of
    `typing_extensions`. Keys lose the mark `ReadOnly`, about which pydantic warns. An alias, a `NewType`
    or a type variable becomes its type if something in that is replaced. `parents` are the names that the annotation is behind.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return _literal(annotation, args)
    if origin in _LISTS or annotation in _LISTS:
        return list[described_as(args[0], parents) if args else Any]  # type: ignore[misc]
    if origin in _ITERATORS or annotation in _ITERATORS:
        return _converted(list[described_as(args[0], parents) if args else Any], iter)  # type: ignore[misc]
    if origin is typing.Final:
        return described_as(args[0], parents)
    if (named := _named_type(annotation, origin, args)) is not None:
        described = named if annotation in parents else described_as(named, (*parents, annotation))
        return annotation if described is named else described
    return _rebuilt(annotation, origin, args, parents) if args else _described_class(annotation)


def _described_class(kind: Any) -> Any:
    """The described form of an annotation without arguments."""
    if kind is typing.LiteralString:
        return str
    if kind is bytearray:
        return _converted(bytes, bytearray)
    if typing_extensions.is_typeddict(kind):
        try:
            return _typed_dict(kind)
        except RecursionError:
            remedy = "needs Python 3.12; use typing_extensions.TypedDict"
            raise TypeError(f"a typing.TypedDict that holds itself {remedy}") from None
    first_version = sys.modules.get("pydantic.v1.main")
    if first_version and isinstance(kind, type) and issubclass(kind, first_version.BaseModel):
        raise TypeError(f"{kind.__name__} is a model of pydantic.v1; derive it from pydantic.BaseModel")
    return kind


def _named_type(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    """The type behind an alias, a `NewType` or a type variable with a bound; None for anything else."""
    if isinstance(annotation, ALIASES):
        return annotation.__value__  # type: ignore[attr-defined]
    if isinstance(origin, ALIASES):
        given = dict(zip(origin.__type_params__, args, strict=False))  # type: ignore[attr-defined]
        value = origin.__value__  # type: ignore[attr-defined]
        parameters = getattr(value, "__parameters__", ())
        return value[tuple(given.get(name, name) for name in parameters)] if parameters else value
    return getattr(annotation, "__supertype__", None) or getattr(annotation, "__bound__", None)


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


def _rebuilt(annotation: Any, origin: Any, args: tuple[Any, ...], parents: tuple[Any, ...]) -> Any:
    if origin is Annotated:
        inner = described_as(args[0], parents)
        return annotation if inner is args[0] else Annotated[(inner, *annotation.__metadata__)]
    parts = tuple(described_as(part, parents) for part in args)
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
    is_usual = sys.version_info >= (3, 12) or type(kind).__module__ == "typing_extensions"
    if is_usual and not getattr(kind, "__readonly_keys__", ()):
        return kind
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:
        hints = typing.get_type_hints(kind, localns=caller_names(), include_extras=True)
    required = kind.__required_keys__
    fields = {}
    for name, hint in hints.items():
        inner, needed = hint, name in required
        while (qualifier := typing.get_origin(inner)) in _QUALIFIERS:
            needed = needed if qualifier in _READ_ONLY else qualifier is typing.Required
            inner = typing.get_args(inner)[0]
        inner = described_as(inner)
        fields[name] = typing_extensions.Required[inner] if needed else typing_extensions.NotRequired[inner]
    make: Any = typing_extensions.TypedDict  # its stub wants a literal name
    made = make(kind.__name__, fields)
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__
    if hasattr(kind, "__pydantic_config__"):
        made.__pydantic_config__ = kind.__pydantic_config__
    return made
