"""One instance of an agent that adds numbers up, as a process of its own; for the take-over test.

Each number from the input topic becomes one effect ``number total``. Ticks change the state, so that a woken zombie has
something to write. Prints one JSON line per change of its role and per refused write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, replace
from typing import Any

from schemas.journal import JournalEntry
from streams.agent import AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import from_json, to_json
from streams.connection import Connection
from streams.control.control_loop import ControlLoop
from streams.control.tenure import JournalPlace
from streams.errors import PoisonRecordError
from streams.partition_log import KafkaLog, LogRecord
from streams.topics import full_name


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers seen, their sum, and ticks."""

    numbers: int = 0
    total: int = 0
    ticks: int = 0


class PlainCodec:
    """Journal entries as canonical JSON, everything else as decimal text."""

    def encode(self, topic: str, record: Any) -> bytes:
        return (to_json(record) if topic == "control.journal" else str(record)).encode()

    def decode(self, topic: str, value: bytes | None) -> Any:
        text = (value or b"").decode()
        if topic == "control.journal":
            return from_json(JournalEntry, text)
        if not text.isdecimal():
            raise PoisonRecordError("garbage", "no number")
        return int(text)


class SlowLog(KafkaLog):
    """Reads only after a while: a fold that takes longer than the session."""

    def __init__(self, connection: Connection, delay_s: float) -> None:
        super().__init__(connection)
        self._delay_s = delay_s

    async def read(self, topic: str, partition: int, first: int = 0) -> list[LogRecord]:
        say(event="folding")
        await asyncio.sleep(self._delay_s)
        return await super().read(topic, partition, first)


def say(**line: Any) -> None:
    print(json.dumps({"pid": os.getpid(), **line}), flush=True)


def decide(state: Count, event: Event, out: Any) -> tuple[Count, Effects]:
    match event.record:
        case Tick():
            return replace(state, ticks=state.ticks + 1), ()
        case number:
            state = replace(state, numbers=state.numbers + 1, total=state.total + number)
            return state, (Publish(out, b"count", f"{number} {state.total}"),)


async def main(options: argparse.Namespace) -> None:
    spec = AgentSpec(
        name=options.name,
        consumes=(options.source,),
        emits=(options.out,),
        initial=lambda params: Count(),
        decide=decide,
        tick_ms=50,
        journaled=True,
        params=options.out,
    )
    connection = Connection(options.bootstrap)
    loop = ControlLoop(
        spec,
        connection,
        PlainCodec(),
        SlowLog(connection, options.slow_fold_s),
        data_dir=options.data_dir,
        on_defect=lambda error: (say(event="defect", error=repr(error)), os._exit(3)),  # type: ignore[func-returns-value]
        session_timeout_s=options.session_s,
        place=JournalPlace(full_name(options.journal), 0),
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await loop.start()
    said: tuple[str, int] = ("", 0)
    while not ended.is_set():
        now = (loop.role, loop.refused_writes)
        if now != said:
            said = now
            say(event=loop.role, refused=loop.refused_writes, sequence=loop.sequence)
        await asyncio.sleep(0.02)
    await loop.stop()
    say(event="stopped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "name", "source", "out", "journal", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--slow-fold-s", type=float, default=0.0)
    parser.add_argument("--session-s", type=float, default=3.0)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(main(parser.parse_args()))
