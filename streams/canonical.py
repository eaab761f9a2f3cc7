"""Canonical JSON of frozen dataclasses, and back: sorted keys, no spaces, bytes as hex, tuples as arrays.

The same object gives the same bytes on every machine, so digests, replay and hash chains can rest on it. Understood
are dataclasses, ``str int float bool bytes None``, ``tuple``, ``Mapping[str, T]``, ``T | None``, ``Literal`` and
``NewType``. Mappings come back as ``dict``; their order is that of the sorted keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from streams.errors import PoisonRecordError

_T = TypeVar("_T")
_Reader = Callable[[Any], Any]


def to_json(obj: Any) -> str:
    """Write ``obj`` as canonical JSON. Raises TypeError on a type that is not understood, ValueError on NaN."""
    return json.dumps(to_plain(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(cls: type[_T], text: str, *, newer: bool = False) -> _T:
    """Read ``text`` as an object of ``cls``. Raises PoisonRecordError (code ``garbage``) on what does not fit.

    ``newer``: a later release may have written it, so fields with names that are not known are left out. Where the
    writer can be told, in a command say, they are an error.
    """
    try:
        return typing.cast("_T", _reader(typing.cast("Any", cls), newer)(json.loads(text)))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise PoisonRecordError("garbage", f"not a {cls.__name__}: {error}") from error


def digest(obj: Any) -> bytes:
    """SHA-256 (32 bytes) of the canonical JSON of ``obj``."""
    return hashlib.sha256(to_json(obj).encode()).digest()


def to_plain(obj: Any) -> Any:
    """What ``json`` can write, for ``obj``."""
    if obj is None or isinstance(obj, str | int | float | bool):
        return obj
    if isinstance(obj, bytes):
        return obj.hex()
    if isinstance(obj, tuple | list):
        return [to_plain(item) for item in obj]
    if isinstance(obj, Mapping):
        if not all(isinstance(key, str) for key in obj):
            raise TypeError("a mapping needs text keys")
        return {key: to_plain(value) for key, value in obj.items()}
    if dataclasses.is_dataclass(obj):
        return {f.name: to_plain(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init}
    raise TypeError(f"{type(obj).__name__} has no canonical form")


@cache
def _reader(kind: Any, newer: bool) -> _Reader:
    """How a value of the annotated type ``kind`` is read from plain JSON."""
    if isinstance(kind, typing.NewType):
        return _reader(kind.__supertype__, newer)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(args, newer)
    if origin is typing.Literal:
        return _literal(args)
    if origin is tuple:
        return _tuple(args, newer)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_reader(args[1], newer))
    if kind is bytes:
        return bytes.fromhex
    if kind is float:
        return _float
    if kind is str:
        return _text
    if kind in (int, bool):
        return _exactly(kind)
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast("type[Any]", kind), newer)
    raise TypeError(f"{kind!r} has no canonical form")


def _exactly(kind: type[Any]) -> _Reader:
    def read(plain: Any) -> Any:
        if type(plain) is not kind:
            raise TypeError(f"expected {kind.__name__}, found {type(plain).__name__}")
        return plain

    return read


def _text(plain: Any) -> str:
    if type(plain) is not str:
        raise TypeError(f"expected str, found {type(plain).__name__}")
    if not plain.isascii():
        plain.encode()  # half a surrogate pair, which JSON can escape, fits into no record: ValueError
    return plain


def _float(plain: Any) -> float:
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise TypeError(f"expected a number, found {type(plain).__name__}")
    if not math.isfinite(plain):  # JSON has none, but Python's reader does, and ``to_json`` refuses them
        raise ValueError(f"{plain!r} is not a finite number")
    return float(plain)


def _literal(values: tuple[Any, ...]) -> _Reader:
    def read(plain: Any) -> Any:
        if plain not in values:
            raise ValueError(f"{plain!r} is none of {values}")
        return plain

    return read


def _optional(args: tuple[Any, ...], newer: bool) -> _Reader:
    (inner,) = (arg for arg in args if arg is not type(None))
    read = _reader(inner, newer)
    return lambda plain: None if plain is None else read(plain)


def _tuple(args: tuple[Any, ...], newer: bool) -> _Reader:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _reader(args[0], newer)
        return lambda plain: tuple(item(value) for value in _exactly(list)(plain))
    readers = [_reader(arg, newer) for arg in args]
    return lambda plain: tuple(read(value) for read, value in zip(readers, _exactly(list)(plain), strict=True))


def _mapping(read: _Reader) -> _Reader:
    return lambda plain: {_text(key): read(value) for key, value in _exactly(dict)(plain).items()}


def _record(cls: type[Any], newer: bool) -> _Reader:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.init]
    readers = {name: _reader(hints[name], newer) for name in names}

    def read(plain: Any) -> Any:
        unknown = set(_exactly(dict)(plain)) - set(names)
        if unknown and not newer:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return cls(**{name: readers[name](value) for name, value in plain.items() if name in readers})

    return read
