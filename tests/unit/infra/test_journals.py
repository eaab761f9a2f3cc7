"""The journals of a broker as the commands see them: which agents there are, what is missing, and one replayed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import infra.journals as journals_module
from infra.journals import Journals, NoJournalError, begin_ms, control_agents
from infra.settings import load_settings
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.control.tenure import JournalPlace
from streams.topics import JOURNALED_AGENTS
from tests.support.journals import Record, as_records
from tests.unit.streams.control.test_backtest import MONITOR, REAL, heard, written

CODEC = Codec(SchemaIds.local())


def given(monkeypatch: pytest.MonkeyPatch, records: list[Record], is_part: bool = False) -> list[Any]:
    asked: list[Any] = []

    async def read(connection: Any, place: Any, take: Any, *, since_ms: Any, progress: Any) -> bool:
        asked.append((place, since_ms))
        progress(1, 2)
        for record in records:
            if not take([SimpleNamespace(offset=record[0], value=record[1])]):
                break
        return is_part

    monkeypatch.setattr(journals_module, "read_journal", read)
    return asked


def test_every_journaled_agent_as_it_is_composed(tmp_path: Path) -> None:
    agents = control_agents(load_settings(data_dir=tmp_path, default_timeout_ms=1_234))
    assert tuple(agents) == JOURNALED_AGENTS
    assert agents["planner"].params.timeout_ms == 1_234


def test_where_reading_begins() -> None:
    assert begin_ms(from_start=True) is None
    day_ago = begin_ms(from_start=False)
    assert day_ago is not None
    assert day_ago > 1_700_000_000_000


async def test_an_agent_of_ours_is_replayed_to_its_first_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    records = as_records(written(MONITOR, [heard(second, second, "router") for second in range(9)], REAL), REAL)
    asked = given(monkeypatch, records, is_part=True)
    told: list[Any] = []
    made = await Journals(Connection("127.0.0.1:1"), CODEC, 6).replay(MONITOR, 5, lambda *each: told.append(each))
    assert (made.difference, made.is_part, made.replay.num_entries) == (None, True, 9)
    assert made.seconds > 0
    assert (asked, told) == ([(JournalPlace.of("monitor"), 5)], [("monitor", 1, 2)])
    given(monkeypatch, [*records[:4], *records[5:]])
    made = await Journals(Connection("127.0.0.1:1"), CODEC, 6).replay(MONITOR, None, lambda *each: None)
    assert made.difference is not None
    assert (made.difference.offset, made.replay.num_entries) == (10, 4)


async def test_what_an_older_or_a_newer_release_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Journals(Connection("127.0.0.1:1"), CODEC, len(JOURNALED_AGENTS) + 2).num_unknown == 2
    older = Journals(Connection("127.0.0.1:1"), CODEC, 2)
    assert older.num_unknown == 0
    with pytest.raises(NoJournalError, match="no partition for the monitor") as caught:
        await older.replay(MONITOR, None, lambda *each: None)
    assert caught.value.exit_code == 3


async def test_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    async def schemas(connection: Connection) -> SchemaIds:
        return SchemaIds.local()

    found: Mapping[str, int] = {"control.journal": 6}

    async def partitions(connection: Connection, names: Any) -> Mapping[str, int]:
        return found

    monkeypatch.setattr(journals_module, "read_schema_ids", schemas)
    monkeypatch.setattr(journals_module, "topic_partitions", partitions)
    assert (await Journals.open(Connection("127.0.0.1:1"))).num_partitions == 6
    found = {}
    with pytest.raises(NoJournalError, match="no topic of journals"):
        await Journals.open(Connection("127.0.0.1:1"))
