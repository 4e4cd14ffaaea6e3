"""Arguments and attributes under their old names, for one version."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["renamed"]

T = TypeVar("T", bound=type)


def renamed(**names: str) -> Callable[[T], T]:
    """Class decorator: each old name still works in the constructor and as an attribute, with a DeprecationWarning.

        @renamed(max_steps="steps")

    Raises TypeError if both names are given.
    """

    def decorate(cls: T) -> T:
        init = cls.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def __init__(self: Any, *args: Any, **options: Any) -> None:
            for old, new in names.items() if names.keys() & options.keys() else ():
                if old in options:
                    if new in options:
                        raise TypeError(f"{cls.__name__}: {old} is the earlier name of {new}; give one of them")
                    _warn(cls, old, new, 3)
                    options[new] = options.pop(old)
            init(self, *args, **options)

        cls.__init__ = __init__  # type: ignore[misc]
        for old, new in names.items():
            setattr(cls, old, _reading(cls, old, new))
        return cls

    return decorate


def _reading(cls: type, old: str, new: str) -> property:
    def read(self: Any) -> Any:
        _warn(cls, old, new, 3)
        return getattr(self, new)

    return property(read, doc=f"The old name of `{new}`.")


def _warn(cls: type, old: str, new: str, level: int) -> None:
    warnings.warn(f"{cls.__name__}: {old} is now {new}", DeprecationWarning, stacklevel=level)
