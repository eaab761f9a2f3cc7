"""Spliced results are what the codec reads, with the headers of real ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.bench.answerer import OUTPUTS, Config, Splice
from schemas.result import Source
from streams.codec import Codec, SchemaIds, subject_of
from streams.ledger import source_of

CODEC = Codec(SchemaIds.local())
TOPIC_ID = b"t" * 16


@pytest.mark.parametrize(("request_id", "partition", "offset"), [("r", 0, 0), ("i" * 64, 300, 2**40), ("é", 1, 77)])
def test_a_result_of_each_request(request_id: str, partition: int, offset: int) -> None:
    splice = Splice(TOPIC_ID, CODEC.ids.write_ids[subject_of("inference.results")])
    value, headers = splice.result(request_id, partition, offset)
    result = CODEC.decode("inference.results", value)
    assert result.source == Source(TOPIC_ID, partition, offset)
    assert (result.request_id, result.status, result.outputs) == (request_id, "OK", OUTPUTS)
    assert source_of(headers) == (TOPIC_ID, partition, offset)  # type: ignore[arg-type]
    assert headers[1] == ("isos-status", b"O")
    assert value == CODEC.encode("inference.results", replace(result))


def test_the_configuration_is_read_as_it_is_written(tmp_path: Path) -> None:
    config = Config("broker:9", "requests", "results", "00" * 16, 7)
    config.write(tmp_path / "config.json")
    assert "broker:9" in (tmp_path / "config.json").read_text()
