"""Kafka records as inputs of a journaled agent."""

from __future__ import annotations

from typing import Any

from streams.control.effect_id import EFFECT_HEADER
from streams.control.journal import Input
from streams.partition_log import LogRecord
from streams.topics import PREFIX, SUFFIX


def effect_source(headers: Any) -> str:
    """Effect id in a record's headers (pairs or a mapping), or empty."""
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return next((bytes(value).decode(errors="replace") for name, value in pairs if name == EFFECT_HEADER), "")


def input_of_event(message: Any) -> Input:
    """Input of a Faust message."""
    short = str(message.topic).removeprefix(PREFIX).removesuffix(SUFFIX)
    key, source = message.key or b"", effect_source(message.headers)
    return Input(short, message.partition, message.offset, key, message.value, source)


def input_of_record(name: str, record: LogRecord) -> Input:
    """Input of a watched record of topic ``name`` (short)."""
    return Input(name, 0, record.offset, record.key or b"", record.value, effect_source(record.headers))
