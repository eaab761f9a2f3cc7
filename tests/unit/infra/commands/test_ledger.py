"""Rows, document and usage errors of ``isos ledger``; reading is in tests/integration/test_ledger.py."""

import pytest
from typer.testing import CliRunner

from infra.commands.ledger import COUNTS, _rows, app, document
from streams.ledger import SOURCE, fold

REPORT = fold(
    bytes(16),
    [(0, 0, 5), (1, 0, 5), (1, 1, 5)],
    [[("isos-source", SOURCE.pack(bytes(16), 1, 0)), ("isos-status", b"R"), ("isos-reaped", b"1")]],
    now_ms=1_000,
    max_age_ms=10,
)


def test_rows_are_partitions_and_their_sum():
    rows = _rows(REPORT)
    assert [row["partition"] for row in rows] == [0, 1, "all"]
    assert [row["missing"] for row in rows] == [1, 1, 2]
    assert rows[-1] == {"partition": "all", **{name: REPORT.total(name) for name in COUNTS}}


def test_document_names_offsets_and_sentences():
    made = document(REPORT, REPORT.violations())
    assert (made["received"], made["rejected"], made["reaped"], made["missing"]) == (3, 1, 1, 2)
    assert made["partitions"][1]["missing"] == {"total": 1, "first": (1,)}
    assert made["violations"] == ["partition 0: 1 missing: offsets 0", "partition 1: 1 missing: offsets 1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--topic-id", "xyz"], "32 hexadecimal digits"),
        (["--topic-id", "00"], "32 hexadecimal digits"),
        (["--requests-topic", "other"], "give it with --topic-id"),
    ],
)
def test_usage_errors_are_sentences(arguments, sentence):
    done = CliRunner().invoke(app, arguments, env={"ISOS_BROKERS": "127.0.0.1:1"})
    assert done.exit_code == 2
    assert sentence in done.stderr
