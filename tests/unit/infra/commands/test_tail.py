"""How ``isos tail`` shows records; reading them is in the integration tests."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.commands.output import Output
from infra.commands.tail import app, described, line, readable, short_name, shown
from streams.codec import Codec, SchemaIds
from streams.topics import TOPICS
from tests.support.samples import SAMPLES

PLAIN = Codec(SchemaIds.local())


def record(value: bytes | None, key: bytes | None = b"k") -> Any:
    return SimpleNamespace(partition=1, offset=7, timestamp=5, key=key, value=value, headers=(("h", b"\xff\x00"),))


def test_either_name_of_a_topic() -> None:
    assert short_name("isos.inference.requests.v1") == short_name("inference.requests") == "inference.requests"
    assert short_name("_schemas") == "_schemas"


def test_a_decoded_record_is_json() -> None:
    value = PLAIN.encode("inference.requests", SAMPLES["InferenceRequest"])
    row = json.loads(line(described(record(value), "inference.requests", PLAIN), Output.JSONL))
    assert (row["partition"], row["offset"], row["key"], row["headers"]) == (1, 7, "k", {"h": "ff00"})
    assert row["value"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": "0000803f00000040"}]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_record_type_can_be_shown(name: str) -> None:
    topic = next(topic.name for topic in TOPICS.values() if topic.record == name)
    row = described(record(PLAIN.encode(topic, SAMPLES[name])), topic, PLAIN)
    for output in Output:
        assert line(row, output)
    assert json.dumps(row)


def test_what_cannot_be_decoded_says_why() -> None:
    row = described(record(b"nonsense"), "inference.requests", PLAIN)
    assert row["value"]["undecodable"] == "garbage"
    row = described(record(None, None), "inference.requests", PLAIN)
    assert row["value"]["undecodable"] == "null_value"
    assert line(described(record(None, None), "inference.requests", None), Output.TABLE) == "1:7  -  null"


def test_bytes_are_shown_as_text_or_digits_or_by_size() -> None:
    assert readable(b"plain text") == "plain text"
    assert readable(b"two\nlines") == b"two\nlines".hex()
    assert readable(None) is None
    assert shown(bytes(33)) == "<33 bytes>"


def test_no_broker_is_one_sentence_and_exit_6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["inference.requests"])
    assert done.exit_code == 6
    assert done.stderr.startswith("The broker does not answer: ")
