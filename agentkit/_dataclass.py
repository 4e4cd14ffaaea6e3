"""Frozen dataclasses that are quick to define.

`dataclasses.dataclass` compiles six methods for each class, which was more than half of the time of `import agentkit`. Here
one is compiled, `__init__`; the others are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from functools import cache
from typing import Any, TypeVar, dataclass_transform, overload

__all__ = ["frozen_dataclass", "with_field"]

C = TypeVar("C", bound=type)
V = TypeVar("V")


@overload
def frozen_dataclass(cls: C, /) -> C: ...
@overload
def frozen_dataclass(*, kw_only: bool = ...) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen_dataclass(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Decorate a class as `dataclass(frozen=True, slots=True)` does. A method that the class defines itself is kept."""
    if cls is None:
        return lambda cls: _made(cls, kw_only)
    return _made(cls, kw_only)


def with_field(value: V, name: str, new: object) -> V:
    """A copy of a frozen dataclass with another value of one field: `replace` in a quarter of the time."""
    cls: Any = type(value)
    made: V = _copier(cls, name)(value, new)
    return made


@cache
def _copier(cls: Any, changed: str) -> Callable[[Any, object], Any]:
    """A compiled function that copies an object field by field."""
    scope: dict[str, Any] = {"make": object.__new__, "cls": cls}
    lines = ["def copied(value, new):", " made = make(cls)"]
    for name in _names(cls):
        scope[f"set_{name}"] = getattr(cls, name).__set__
        lines.append(f" set_{name}(made, {'new' if name == changed else f'value.{name}'})")
    exec("\n".join([*lines, " return made"]), scope)
    copied: Callable[[Any, object], Any] = scope["copied"]
    return copied


def _made(cls: Any, kw_only: bool) -> Any:
    own = {name for name, method in vars(cls).items() if method is not None}
    bases = [base.__dataclass_params__ for base in cls.__mro__ if "__dataclass_params__" in vars(base)]
    for base in bases:  # `dataclass` refuses to mix frozen classes and others; it must not add its own methods here
        base.frozen = False
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    for params in (*bases, made.__dataclass_params__):
        params.frozen = True
    made.__init__ = _init_of(made)
    made.__compared__ = tuple(item.name for item in fields(made) if item.compare)
    for name, method in _METHODS.items():
        if name not in own:
            setattr(made, name, method)
    return made


def _init_of(cls: Any) -> Any:
    given, set_all = [], []
    scope: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": MISSING}
    for item in sorted(fields(cls), key=lambda item: bool(item.kw_only)):  # stable: the others keep their order
        name, value = item.name, item.name
        if not item.init and item.default is MISSING and item.default_factory is MISSING:
            continue  # `__post_init__` sets it
        if item.kw_only and "*" not in given and item.init:
            given.append("*")
        if item.default_factory is not MISSING:
            scope[f"_{name}"] = item.default_factory
            value = f"_{name}() if {name} is _MISSING else {name}" if item.init else f"_{name}()"
        elif item.default is not MISSING:
            scope[f"_{name}"] = item.default
            value = name if item.init else f"_{name}"
        if item.init:
            default = "_MISSING" if item.default_factory is not MISSING else f"_{name}"
            given.append(name if f"_{name}" not in scope else f"{name}={default}")
        set_all.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        set_all.append(" self.__post_init__()")
    exec(f"def __init__(self, {', '.join(given)}):\n" + "\n".join(set_all or [" pass"]), scope)
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {item.name: item.type for item in fields(cls) if item.init}
    return init


def _repr(self: Any) -> str:
    shown = [f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if self is other:
        return True
    if type(other) is not type(self):
        return NotImplemented
    return all([getattr(self, name) == getattr(other, name) for name in self.__compared__])  # noqa: C419  faster


def _hash(self: Any) -> int:
    return hash(tuple([getattr(self, name) for name in self.__compared__]))


def _setattr(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _names(value: Any) -> list[str]:
    return [item.name for item in fields(value)]


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name in _names(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(_names(self), state, strict=True):
        object.__setattr__(self, name, value)


_METHODS = {
    "__repr__": _repr, "__eq__": _eq, "__hash__": _hash, "__setattr__": _setattr, "__delattr__": _delattr,
    "__getstate__": _getstate, "__setstate__": _setstate,
}  # fmt: skip
