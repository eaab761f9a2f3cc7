"""What a command tells the audit log, and what becomes of a record that nobody takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infra import audit_trail
from infra.audit_spool import spooled
from infra.audit_trail import CommandAudit, audited
from infra.settings import Settings, load_settings
from schemas.audit import AuditRecord
from streams.audit_operation import Facts
from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError

CODEC = Codec(SchemaIds.local())


class Broker:
    """Producers that take audit records, or are away."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.is_away = self.refuses = False
        self.open = self.num_started = 0

    def __call__(self, connection: Connection, **settings: Any) -> Broker:
        return self

    async def start(self) -> None:
        self.num_started += 1
        if self.is_away:
            raise OSError("nobody there")
        self.open += 1

    async def stop(self) -> None:
        self.open = max(0, self.open - 1)

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, partition: int) -> None:
        if self.refuses:
            raise UnreachableError("sending", "no such topic")
        self.records.append(CODEC.decode("audit.intake", value))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()

    async def ids(connection: Connection) -> SchemaIds:
        return CODEC.ids

    monkeypatch.setattr(audit_trail, "producer", made)
    monkeypatch.setattr(audit_trail, "read_schema_ids", ids)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path, user="alice")


def said(records: list[AuditRecord]) -> list[tuple[str, str]]:
    return [(each.phase, each.outcome) for each in records]


def test_a_command_is_told_before_and_after(broker: Broker, settings: Settings) -> None:
    with audited(settings, "topics.grow", Facts(resources=("partitions=4",))) as operation:
        assert said(broker.records) == [("before", "pending")]
        operation.affected("inference.requests")
    assert said(broker.records) == [("before", "pending"), ("after", "done")]
    assert {each.user for each in broker.records} == {"alice"}
    assert broker.records[1].resources_affected == ("inference.requests",)
    assert (broker.open, spooled(settings)) == (0, [])


def test_what_is_held_is_told_at_the_end(broker: Broker, settings: Settings) -> None:
    with pytest.raises(ValueError, match="no"), audited(settings, "topics.provision", held=True):
        assert broker.records == []
        raise ValueError("no")
    assert said(broker.records) == [("before", "pending"), ("after", "failed")]


@pytest.mark.parametrize("how", ["is_away", "refuses"])
def test_without_a_taker_records_go_to_the_spool_with_one_warning(
    broker: Broker, settings: Settings, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setattr(broker, how, True)
    with audited(settings, "dlq.redrive"):
        pass
    assert said([each.record for each in spooled(settings)]) == [("before", "pending"), ("after", "done")]
    assert capsys.readouterr().err.count("the audit log did not take a record") == 1
    assert broker.open == 0


async def test_with_a_broker_at_hand_its_producer_is_used(broker: Broker, settings: Settings) -> None:
    audit = CommandAudit(settings)
    async with audit.operation("command.X", Facts("digits"), broker, CODEC, "production") as operation:
        operation.metric("size_bytes", 7)
    assert said(broker.records) == [("before", "pending"), ("after", "done")]
    assert {(each.environment, each.model_name) for each in broker.records} == {("production", "digits")}
    with pytest.raises(asyncio.CancelledError):
        async with audit.operation("command.X", Facts(), broker, CODEC):
            raise asyncio.CancelledError
    assert said(broker.records)[2:] == [("before", "pending"), ("after", "unknown")]


async def test_who_took_none_is_not_waited_for_twice(broker: Broker, settings: Settings) -> None:
    audit = CommandAudit(settings)
    broker.refuses = True
    async with audit.operation("command.X", Facts(), broker, CODEC):
        broker.refuses = False
    assert (broker.records, len(spooled(settings)), audit.told) == ([], 2, False)


def test_a_broker_that_was_away_is_not_asked_again(broker: Broker, settings: Settings) -> None:
    broker.is_away = True
    with audited(settings, "dlq.redrive"):
        assert broker.num_started == 1
    assert (broker.num_started, len(spooled(settings))) == (1, 2)


def test_a_record_that_can_go_nowhere_is_said_to_be_lost(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    broker.is_away = True
    with audited(load_settings(data_dir=tmp_path / "file"), "dlq.redrive"):
        pass
    assert "it is lost" in capsys.readouterr().err


def test_a_command_that_failed_says_why_itself(
    broker: Broker, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.is_away = True
    with pytest.raises(UnreachableError), audited(settings, "topics.provision", held=True):
        raise UnreachableError("asking", "nobody there")
    assert capsys.readouterr().err == ""
    assert len(spooled(settings)) == 2
