"""How a change reaches the log when claims are lost and outcomes unknown; two real writers are in integration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import streams.registry.schema_writer
from streams.errors import FencedError, RetriableError
from streams.fenced import RENEW_AFTER_S, WriteFailedError
from streams.registry import changes as changes
from streams.registry.rules import RegistryError
from streams.registry.schema_log import SchemaLog, fold
from streams.registry.schema_writer import ATTEMPTS, SchemaWriter
from tests.support.schemas import record

BASE, ADDED = record(("a", "long")), record(("a", "long"), ("b", "long", 0))


class Log:
    """The stored log, seen by the follower only when it looks; ``faults`` befall the writes to come."""

    def __init__(self) -> None:
        self.stored: list[tuple[bytes, bytes | None]] = []
        self.faults: list[tuple[Exception, bool]] = []
        self.num_claims = 0
        self.age_s = 0.0
        self.log = SchemaLog()

    def others_write(self, text: str) -> None:
        newest = fold(SchemaLog(), self.stored)
        self.stored += changes.register(newest, "s", text).records

    async def catch_up(self) -> None:
        self.log = fold(SchemaLog(), self.stored)

    async def wait_for_offset(self, offset: int) -> None:
        assert offset == len(self.stored) - 1
        await self.catch_up()

    async def submit(self, records: list[tuple[bytes, bytes | None, Any]]) -> list[tuple[bytes, bytes | None]]:
        return [(key, value) for key, value, _ in records]

    async def confirm(self, submission: list[tuple[bytes, bytes | None]]) -> tuple[int, int]:
        if self.faults:
            error, written = self.faults.pop(0)
            self.stored += submission if written else []
            raise error
        self.stored += submission
        return len(self.stored) - len(submission), len(self.stored)

    async def stop(self) -> None:
        return None


def claim_of(log: Log) -> Callable[..., Any]:
    async def claim(*_: Any, **__: Any) -> Log:
        log.num_claims += 1
        return log

    return claim


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(streams.registry.schema_writer.FencedWriter, "claim", claim_of(made))
    monkeypatch.setattr(streams.registry.schema_writer, "BACK_OFF_S", 0.0)
    return made


def writer(log: Log) -> SchemaWriter:
    return SchemaWriter(None, log)  # type: ignore[arg-type]


async def register(one: SchemaWriter, text: str) -> Any:
    return await one.change(lambda schemas: changes.register(schemas, "s", text))


async def test_a_change_is_written_once_and_read_back(log: Log) -> None:
    one = writer(log)
    entry = await register(one, BASE)
    assert (entry.schema_id, log.log.of("s")) == (1, [entry])
    assert (await register(one, BASE)) == entry
    assert (len(log.stored), log.num_claims) == (1, 1)


async def test_what_writes_nothing_needs_no_claim(log: Log) -> None:
    log.others_write(BASE)
    assert (await register(writer(log), BASE)).schema_id == 1
    with pytest.raises(RegistryError):
        await writer(log).change(lambda schemas: changes.delete_subject(schemas, "none", permanent=False))
    assert (log.num_claims, len(log.stored)) == (0, 1)


async def test_a_writer_that_was_shut_out_decides_anew(log: Log) -> None:
    one = writer(log)
    await register(one, BASE)
    log.others_write(ADDED)
    log.log = fold(SchemaLog(), log.stored[:1])  # the follower has not seen it
    log.faults = [(FencedError("_schemas", 0), False)]
    text = record(("a", "long"), ("c", "long", 0))
    entry = await register(one, text)
    assert (entry.version, entry.schema_id) == (3, 3)
    assert log.num_claims == 2


async def test_a_write_whose_outcome_was_unknown_is_not_repeated(log: Log) -> None:
    log.faults = [(WriteFailedError("_schemas", 0, "no answer"), True)]
    one = writer(log)
    assert (await register(one, BASE)).schema_id == 1
    assert len(log.stored) == 1
    log.faults = [(WriteFailedError("_schemas", 0, "no answer"), True)]
    deleted = await one.change(lambda schemas: changes.delete_version(schemas, "s", "1", permanent=False))
    assert deleted == 1  # and not "was deleted before"
    assert len(log.stored) == 2


async def test_it_gives_up_when_the_log_never_answers(log: Log) -> None:
    log.faults = [(WriteFailedError("_schemas", 0, "no answer"), False)] * ATTEMPTS
    with pytest.raises(RetriableError):
        await register(writer(log), BASE)
    assert log.num_claims == ATTEMPTS
    assert log.stored == []


async def test_an_old_claim_is_renewed(log: Log) -> None:
    one = writer(log)
    await register(one, BASE)
    log.age_s = RENEW_AFTER_S + 1
    await register(one, ADDED)
    assert log.num_claims == 2


async def test_a_cancelled_change_gives_its_claim_up(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer(log)
    await register(one, BASE)
    under_way = asyncio.Event()

    async def hang(submission: list[tuple[bytes, bytes | None]]) -> tuple[int, int]:
        under_way.set()
        await asyncio.Event().wait()
        raise AssertionError(submission)

    monkeypatch.setattr(log, "confirm", hang)
    task = asyncio.create_task(register(one, ADDED))
    await under_way.wait()
    task.cancel()
    await asyncio.wait({task})
    monkeypatch.undo()
    log.others_write(ADDED)  # what was under way arrives late
    monkeypatch.setattr(streams.registry.schema_writer.FencedWriter, "claim", claim_of(log))
    entry = await register(one, record(("a", "long"), ("c", "long", 0)))
    assert (entry.version, entry.schema_id, log.num_claims) == (3, 3, 2)


async def test_a_claim_without_the_logs_end_is_not_kept(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Exception | None] = [None, WriteFailedError("_schemas", 0, "no end")]
    catch_up = log.catch_up

    async def look() -> None:
        error = looks.pop(0) if looks else None
        if error is not None:
            raise error
        await catch_up()

    monkeypatch.setattr(log, "catch_up", look)
    assert (await register(writer(log), BASE)).schema_id == 1
    assert log.num_claims == 2
