"""Which parameters the framework fills, whatever name their annotation goes by."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from typing import Any

import typing_extensions

__all__ = ["context_class", "filled"]

_ALIASES: tuple[type, ...] = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)


def context_class(annotation: Any, base: type) -> type | None:
    """The class of `base`, or below it, that the annotation means; None where it means another type.

    It may be behind an alias, a `NewType`, `Annotated`, `Optional`, or the bound of a type variable. Raises TypeError for a
    subclass that cannot be made from what `base` has.
    """
    if isinstance(annotation, type) and issubclass(annotation, base):
        return _fillable(annotation, base)
    origin = typing.get_origin(annotation)
    if isinstance(annotation, _ALIASES) or isinstance(origin, _ALIASES):
        inner: tuple[Any, ...] = ((annotation if origin is None else origin).__value__,)
    elif origin is not None:
        is_of = isinstance(origin, type) and issubclass(origin, base)
        inner = (origin,) if is_of else typing.get_args(annotation) if _is_wrapper(origin) else ()
    else:
        inner = (getattr(annotation, "__supertype__", None), getattr(annotation, "__bound__", None))
    found = (context_class(part, base) for part in inner if part is not None)
    return next((kind for kind in found if kind is not None), None)


def _is_wrapper(origin: Any) -> bool:
    return origin in (typing.Annotated, typing.Union, types.UnionType)


def _fillable(kind: type, base: type) -> type:
    if kind.__init__ is not base.__init__:  # type: ignore[misc]
        try:
            filled(kind, base(None))
        except TypeError as error:
            raise TypeError(
                f"{kind.__name__} is a {base.__name__} that needs more than a run has ({error}); give its own fields defaults, "
                f"or annotate {base.__name__} and give what is yours as deps"
            ) from None
    return kind


def filled(kind: type, context: Any) -> Any:
    """The context as an instance of the class that the parameter is annotated with."""
    if context is None or isinstance(context, kind):
        return context
    return kind(**{field.name: getattr(context, field.name) for field in fields(context)})
