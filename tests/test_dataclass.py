"""Frozen dataclasses with shared methods behave like those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentkit import Usage
from agentkit._dataclass import frozen_dataclass, with_field


@frozen_dataclass
class Base:
    at: float = field(default=0.0, compare=False, kw_only=True, repr=False)


@frozen_dataclass
class Ours(Base):
    name: str
    tags: list[str] = field(default_factory=list)
    size: int = 0
    secret: str = field(default="", repr=False)
    double: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", 2 * self.size)


@dataclass(frozen=True, slots=True)
class Theirs:
    name: str
    tags: list[str] = field(default_factory=list)
    size: int = 0
    secret: str = field(default="", repr=False)
    double: int = field(init=False, default=0)
    at: float = field(default=0.0, compare=False, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", 2 * self.size)


GIVEN: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "size": 3, "secret": "s"}, {"name": "c", "tags": ["x"], "at": 1.5}]


@pytest.mark.parametrize("given", GIVEN)
def test_values_are_as_those_of_the_standard_library(given: dict[str, Any]) -> None:
    ours, theirs = Ours(**given), Theirs(**given)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert ours == Ours(**{**given, "at": 7.0}) and ours != Ours(**{**given, "name": "z"}) and ours != theirs  # type: ignore[comparison-overlap]
    assert replace(ours, size=9).double == 18
    for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert again == ours and again.at == ours.at
    assert TypeAdapter(Ours).validate_python(TypeAdapter(Ours).dump_python(ours)) == ours


def test_default_factories_are_called_for_each_value() -> None:
    assert Ours("a").tags is not Ours("a").tags
    assert not hasattr(Ours("a"), "__dict__")


def test_arguments_are_named_as_in_the_standard_library() -> None:
    with pytest.raises(TypeError, match="name"):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Ours("a", [], 0, "", 1.0)  # type: ignore[call-arg]
    ours, theirs = inspect.signature(Ours), inspect.signature(Theirs)
    assert [(p.name, p.kind) for p in ours.parameters.values()] == [(p.name, p.kind) for p in theirs.parameters.values()]


def test_a_copy_has_another_value_of_one_field() -> None:
    old = Ours("a", ["x"], 2, at=3.0)
    new = with_field(old, "name", "b")
    assert new == replace(old, name="b") and (new.at, new.tags, old.name) == (3.0, ["x"], "a") and type(new) is Ours


def test_values_cannot_be_changed() -> None:
    value = Ours("a")
    with pytest.raises(FrozenInstanceError, match="'name'"):
        value.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="'name'"):
        del value.name
    assert hash(Usage(1, 2)) == hash(Usage(1, 2))
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)  # it has a list


def test_a_frozen_dataclass_of_the_program_can_extend_one() -> None:
    @dataclass(frozen=True)
    class More(Ours):
        extra: int = 0

    assert More("a", extra=2).extra == 2
    with pytest.raises(FrozenInstanceError):
        More("a").extra = 3  # type: ignore[misc]
