"""Where two values differ, as a person reads it: the path of the first difference, and both sides, shortened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from schemas.journal import JournalEffect
from streams.canonical import to_plain
from streams.control.journal import JournaledAgent

WIDTH: Final = 120


def told(agent: JournaledAgent, effect: JournalEffect) -> dict[str, Any]:
    """An effect as plain data: topic, partition (-1 = by key), key, record (hex if it is none, None: tombstone)."""
    topic, partition, key, record = agent.meaning(effect)
    return {"topic": topic, "partition": partition, "key": key.decode("utf-8", "replace"), "record": to_plain(record)}


def shortened(value: Any, width: int = WIDTH) -> str:
    """Plain data as one line of JSON, cut at ``width`` characters."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"


def first_difference(was: Any, now: Any) -> str:
    """Path and sides of the first place, by sorted names, at which two pieces of plain data (or JSON texts) differ."""
    path, left, right = _find(was, now, "")
    return f"{path or 'its value'}: {left} in the journal, {right} today"


def _find(was: Any, now: Any, path: str) -> tuple[str, str, str]:
    was, now = _opened(was, now)
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted({*was, *now}):
            below = f"{path}.{name}" if path else str(name)
            if name not in was or name not in now:
                return below, _item(was, name), _item(now, name)
            if was[name] != now[name]:
                return _find(was[name], now[name], below)
    if isinstance(was, list) and isinstance(now, list):
        for at in range(max(len(was), len(now))):
            below = f"{path}[{at}]"
            if at >= len(was) or at >= len(now):
                return below, _item(dict(enumerate(was)), at), _item(dict(enumerate(now)), at)
            if was[at] != now[at]:
                return _find(was[at], now[at], below)
    return path, shortened(was), shortened(now)


def _item(values: Mapping[Any, Any], name: Any) -> str:
    return shortened(values[name]) if name in values else "nothing"


def _opened(was: Any, now: Any) -> tuple[Any, Any]:
    """Both sides parsed where both are texts that hold JSON objects: bodies in memory are."""
    if isinstance(was, str) and isinstance(now, str) and was.startswith("{") and now.startswith("{"):
        try:
            return json.loads(was), json.loads(now)
        except ValueError:
            return was, now
    return was, now
