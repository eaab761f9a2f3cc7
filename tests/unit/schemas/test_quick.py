"""The quick constructor does what the slow one did."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field, replace

import pytest

from schemas.quick import quick, replaced


class Hidden:
    """A slot that is no field."""

    __slots__ = ("note",)


@dataclass(frozen=True, slots=True)
class Slow(Hidden):
    name: str
    size: int = 3
    parts: tuple[str, ...] = ()


@quick
@dataclass(frozen=True, slots=True)
class Quick(Hidden):
    name: str
    size: int = 3
    parts: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("given", "named"),
    [(("a",), {}), (("a", 4), {}), (("a",), {"parts": ("x",)}), ((), {"name": "b", "size": 0}), (("a", 1, ("y",)), {})],
)
def test_the_fields_are_those_of_the_slow_one(given, named):
    made, expected = Quick(*given, **named), Slow(*given, **named)
    assert type(made) is Quick
    assert dataclasses.astuple(made) == dataclasses.astuple(expected)
    assert made == Quick(*given, **named)
    assert hash(made) == hash(Quick(*given, **named))
    assert repr(made) == repr(expected).replace("Slow", "Quick")


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), (("a", 1, (), 4), {}), (("a",), {"name": "b"}), (("a",), {"n": 1})]
)
def test_wrong_arguments_are_refused_alike(given, named):
    for cls in (Slow, Quick):
        with pytest.raises(TypeError):
            cls(*given, **named)


def test_it_is_frozen_and_has_no_further_attributes():
    made = Quick("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.name
    assert not hasattr(made, "__dict__")
    assert not hasattr(made, "note")


def test_copies():
    made = Quick("a", parts=("x",))
    assert replace(made, size=9) == Quick("a", 9, ("x",))
    assert copy.deepcopy(made) == copy.copy(made) == pickle.loads(pickle.dumps(made)) == made
    assert type(replace(made, size=9)) is Quick


def test_a_changed_copy_is_that_of_dataclasses():
    made = Quick("a", parts=("x",))
    object.__setattr__(made, "note", 7)
    for changes in ({}, {"size": 9}, {"name": "b", "parts": ()}):
        assert replaced(made, **changes) == replace(made, **changes)
        assert type(replaced(made, **changes)) is Quick
        assert not hasattr(replaced(made, **changes), "note")
    assert made == Quick("a", 3, ("x",))
    with pytest.raises(AttributeError):
        replaced(made, weight=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        replaced(made, size=9).size = 10


def test_what_it_does_not_know_is_refused():
    @dataclass(frozen=True, slots=True)
    class Factory:
        parts: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Later:
        name: str = field(default="", init=False)

    @dataclass(slots=True)
    class Open:
        name: str

    @dataclass(frozen=True)
    class Loose:
        name: str

    for cls in (Factory, Later, Open, Loose, int):
        with pytest.raises(TypeError):
            quick(cls)
