"""`isos explain`: what it refuses, what it asks the search, its exit codes; the broker is in the integration test."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.explain as command
from infra.cli import app
from infra.commands.explain import NoSuchRequestError, Wanted, _found, _is_of, not_found
from infra.explanation import Evidence
from streams.codec import Codec, SchemaIds
from tests.support.samples import RESULT

CODEC = Codec(SchemaIds.local())
VALUE = CODEC.encode("inference.results", RESULT)


def isos(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["--set", "brokers=127.0.0.1:1", "explain", *arguments])


@pytest.mark.parametrize(
    "arguments", [(), ("r1", "--partition", "0", "--offset", "1"), ("--partition", "0"), ("r1", "--offset", "1")]
)
def test_a_request_is_named_in_one_way(arguments: tuple[str, ...]) -> None:
    done = isos(*arguments)
    assert done.exit_code == 2
    assert "by its id, or by --partition and --offset" in done.output


def test_a_broker_that_is_away_is_one_sentence() -> None:
    done = isos("r1")
    assert done.exit_code == 6
    assert "The broker does not answer" in done.output


def test_what_is_not_there_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gather(connection: Any, wanted: Wanted, progress: Any) -> Evidence:
        raise NoSuchRequestError(not_found(wanted))

    monkeypatch.setattr(command, "gather", gather)
    done = isos("r1", "--tenant", "t")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "No result of a request r1 of tenant t is among the newest 1000000 results" in done.stderr
    assert "isos ledger" in done.stderr
    assert "is on the log" in isos("r1", "--last", "0").stderr


def test_a_document_or_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Wanted] = []

    async def gather(connection: Any, wanted: Wanted, progress: Any) -> Evidence:
        asked.append(wanted)
        return Evidence(RESULT, 7, 1, {}, None, ())

    monkeypatch.setattr(command, "gather", gather)
    done = isos("--partition", "1", "--offset", "17", "--output", "json")
    assert (done.exit_code, json.loads(done.stdout)["request"]["offset"]) == (0, RESULT.source.offset)
    assert asked == [Wanted(place=(1, 17))]
    done = isos("r1", "--last", "5")
    assert "served_by.executor" in done.stdout
    assert asked[1] == Wanted("r1", last=5)


@dataclasses.dataclass
class Search:
    """Answers with what it was made with."""

    result: Any = None
    stands: Any = None

    async def by_id(self, request_id: str, num_partitions: int, last: int, matches: Any) -> Any:
        assert num_partitions == 3
        return self.result if self.result is not None and matches(self.result) else None

    async def by_place(self, partition: int, offset: int, since_ms: int | None) -> Any:
        assert since_ms == (None if self.stands is None else self.stands.timestamp)
        return self.result

    async def request(self, partition: int, offset: int) -> Any:
        return self.stands


RECORD = SimpleNamespace(value=VALUE)
STANDS = SimpleNamespace(timestamp=5)


async def test_by_id_the_tenant_counts() -> None:
    for wanted, found in ((Wanted("r1"), True), (Wanted("r1", "default"), True), (Wanted("r1", "other"), False)):
        if found:
            assert await _found(Search(RECORD), CODEC, wanted, (2, 3)) is RECORD  # type: ignore[arg-type]
        else:
            with pytest.raises(NoSuchRequestError, match="of tenant other"):
                await _found(Search(RECORD), CODEC, wanted, (2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("search", "wanted", "sentence"),
    [
        (Search(RECORD, STANDS), Wanted(place=(2, 0)), "no partition 2"),
        (Search(None, STANDS), Wanted(place=(0, 4)), "has no result yet"),
        (Search(None, None), Wanted(place=(0, 4)), "No request stands at 0/4"),
        (Search(RECORD, STANDS), Wanted(place=(0, 4), tenant="other"), "not one of tenant other"),
    ],
)
async def test_by_place_it_is_said_what_is_there(search: Any, wanted: Wanted, sentence: str) -> None:
    with pytest.raises(NoSuchRequestError, match=sentence):
        await _found(search, CODEC, wanted, (2, 3))


async def test_by_place_also_when_the_request_is_gone() -> None:
    for stands in (STANDS, None):
        search: Any = Search(RECORD, stands)
        assert await _found(search, CODEC, Wanted(place=(0, 4)), (2, 3)) is RECORD


def test_what_cannot_be_read_is_nobodys() -> None:
    assert not _is_of(CODEC, Wanted(), SimpleNamespace(value=b"?"))
    assert _is_of(CODEC, Wanted(), RECORD)
