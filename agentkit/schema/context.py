"""Finds, by annotation, the parameters that the framework fills with a run's context."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from typing import Any

from .annotations import ALIASES

__all__ = ["context_class", "filled"]


def context_class(annotation: Any, base: type) -> type | None:
    """The class of an annotation that is `base` or a subclass of it; None for any other annotation.

    The class may be inside an alias, a `NewType`, `Annotated`, `Optional`, or the bound of a type variable. Raises TypeError
    for a subclass that cannot be made from the fields of `base`.
    """
    if isinstance(annotation, type) and issubclass(annotation, base):
        return _fillable(annotation, base)
    origin = typing.get_origin(annotation)
    if isinstance(annotation, ALIASES) or isinstance(origin, ALIASES):
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
    """The context as an instance of the parameter's annotated class."""
    if context is None or isinstance(context, kind):
        return context
    return kind(**{field.name: getattr(context, field.name) for field in fields(context)})
