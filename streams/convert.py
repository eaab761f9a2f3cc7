"""Dataclass to dict and back, by compiled getters: what stands between our records and the Avro library.

Converters are made once per class from its type hints; nested dataclasses, tuples of them and ``X | None`` are the only
shapes that exist.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any

Convert = Callable[[Any], Any]


def _each(inner: Convert | None, out: type) -> Convert:
    return out if inner is None else lambda items: out([inner(item) for item in items])


def _optional(inner: Convert | None) -> Convert | None:
    return None if inner is None else lambda value: None if value is None else inner(value)


def _conversion(hint: Any, of_class: Callable[[type], Convert], array: type) -> Convert | None:
    """Conversion for a type hint; None where the value passes as it is."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return _optional(_conversion(inner, of_class, array))
    if origin is tuple:
        return _each(_conversion(typing.get_args(hint)[0], of_class, array), array)
    return of_class(hint) if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None


def _fields(
    cls: type, of_class: Callable[[type], Convert], array: type
) -> tuple[tuple[str, ...], list[tuple[int, Convert]]]:
    hints = typing.get_type_hints(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))
    found = [(i, _conversion(hints[name], of_class, array)) for i, name in enumerate(names)]
    return names, [(i, convert) for i, convert in found if convert is not None]


def _getter(make: Callable[..., Convert], names: tuple[str, ...]) -> Convert:
    """Getter that gives a tuple also for a single name."""
    if len(names) == 1:
        only = make(names[0])
        return lambda value: (only(value),)
    return make(*names)


@cache
def from_dict(cls: type) -> Convert:
    """Function that makes a ``cls`` of a dict with a value for every field; arrays become tuples."""
    names, nested = _fields(cls, from_dict, tuple)
    get = _getter(itemgetter, names)
    if not nested:
        return lambda value: cls(*get(value))

    def convert(value: dict[str, Any]) -> Any:
        values = list(get(value))
        for i, inner in nested:
            values[i] = inner(values[i])
        return cls(*values)

    return convert


@cache
def to_dict(cls: type) -> Convert:
    """Function that makes a dict of a ``cls``, in field order, as the Avro library wants it."""
    names, nested = _fields(cls, to_dict, list)
    get = _getter(attrgetter, names)
    if not nested:
        return lambda record: dict(zip(names, get(record), strict=True))

    def convert(record: Any) -> dict[str, Any]:
        values = list(get(record))
        for i, inner in nested:
            values[i] = inner(values[i])
        return dict(zip(names, values, strict=True))

    return convert
