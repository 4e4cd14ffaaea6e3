"""What the class of a method says about its annotations: names that they may use, and the types of type variables."""

from __future__ import annotations

import builtins
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ..names import object_at

__all__ = ["class_names", "with_type_arguments"]


def class_names(fn: Callable[..., Any], source: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The names in the class of a method or callable object that no `known` or built-in name hides.

    `source` is the function that has the annotations of `fn`.
    """
    module, qualname = getattr(source, "__module__", None) or "", getattr(source, "__qualname__", "")
    owners = [_class_of(_owner(fn, source)), object_at(module, qualname.rpartition(".")[0])]
    names: dict[str, Any] = {}
    for kind in (base for found in owners if inspect.isclass(found) for base in found.__mro__):
        names = {**vars(kind), **names}
    return {name: value for name, value in names.items() if name not in known and not hasattr(builtins, name)}


def with_type_arguments(hints: dict[str, Any], fn: Callable[..., Any], source: Callable[..., Any]) -> dict[str, Any]:
    """The hints with the type variables of a generic class replaced: by `User` for a method of `class Users(Store[User])`."""
    if not any(isinstance(hint, typing.TypeVar) or getattr(hint, "__parameters__", ()) for hint in hints.values()):
        return hints
    owner = _owner(fn, source)
    found: dict[Any, Any] = {}
    bases = [base for kind in _class_of(owner).__mro__ for base in vars(kind).get("__orig_bases__", ())]
    for base in (getattr(owner, "__orig_class__", None), *bases):
        parameters = getattr(typing.get_origin(base), "__parameters__", ())
        for parameter, given in zip(parameters, typing.get_args(base), strict=False):
            found.setdefault(parameter, _replaced(given, found))
    return {name: _replaced(hint, found) for name, hint in hints.items()}


def _replaced(hint: Any, found: Mapping[Any, Any]) -> Any:
    if isinstance(hint, typing.TypeVar):
        return found.get(hint, hint)
    parameters = () if inspect.isclass(hint) else getattr(hint, "__parameters__", ())
    return hint[tuple(found.get(one, one) for one in parameters)] if found.keys() & {*parameters} else hint


def _owner(fn: Callable[..., Any], source: Callable[..., Any]) -> Any:
    """The object or class that a method is bound to, or the callable object; None for a plain function."""
    bound = (getattr(place, "__self__", None) for place in (source, fn, getattr(fn, "func", None)))
    return next((owner for owner in bound if owner is not None), None if fn is source else fn)


def _class_of(owner: Any) -> Any:
    return owner if inspect.isclass(owner) else type(owner)
