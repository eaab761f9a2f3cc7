"""The walk over a body accepts what decodes and stops where decoding would run away."""

from __future__ import annotations

import pytest

from streams.avro_scan import MAX_ITEMS, compile_scan
from streams.codec import RECORDS, encode_body, normal_text
from streams.registry.schema_text import lint
from streams.varint import write_array, write_long, write_string
from tests.support.samples import SAMPLES


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_ends_where_the_record_ends(name: str) -> None:
    body = encode_body(name, SAMPLES[name])
    assert compile_scan(normal_text(name))(b"12345" + body + b"more", 5) == 5 + len(body)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_cut_is_noticed(name: str) -> None:
    body, scan = encode_body(name, SAMPLES[name]), compile_scan(normal_text(name))
    for cut in range(len(body)):
        with pytest.raises((EOFError, ValueError)):
            scan(body[:cut], 0)


def test_items_are_capped_over_the_whole_record() -> None:
    scan = compile_scan(lint('{"type":"array","items":{"type":"array","items":"long"}}'))
    fits = write_array([write_array([b"\x00"] * 99)] * (MAX_ITEMS // 100))
    assert scan(fits, 0) == len(fits)
    with pytest.raises(ValueError, match="more than"):
        scan(write_array([write_array([b"\x00"] * 100)] * (MAX_ITEMS // 100)), 0)


def test_blocks_with_a_size_and_maps() -> None:
    scan = compile_scan(lint('{"type":"map","values":"long"}'))
    entry = write_string("k") + write_long(7)
    data = write_long(-1) + write_long(len(entry)) + entry + write_long(1) + entry + b"\x00"
    assert scan(data, 0) == len(data)


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ('{"type":"enum","name":"E","symbols":["A"]}', write_long(1)),
        ('{"type":"enum","name":"E","symbols":["A"]}', write_long(-1)),
        ('["null","long"]', write_long(2)),
        ('"int"', write_long(1 << 31)),
        ('"long"', b"\xff" * 12),
    ],
)
def test_out_of_range(schema: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"range|bits"):
        compile_scan(lint(schema))(data, 0)
