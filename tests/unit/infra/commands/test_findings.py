"""Findings of the chains' checks as sentences and as JSON."""

from __future__ import annotations

import pytest
import typer

from infra.commands.findings import MAX_LISTED, finding_document, noted, sentence, tell
from streams.link_check import NOWHERE, Finding, head_text
from streams.memory_view import MemoryHead

CHANGED = Finding("memory.events", 1, 2, "it was changed")
CUT_OFF = Finding("audit.log", NOWHERE, 0, "its end was cut off")


def test_a_finding_says_where_it_is() -> None:
    assert sentence(CHANGED) == "memory.events/0, offset 1, sequence 2: it was changed."
    assert sentence(CUT_OFF) == "audit.log/0, no record: its end was cut off."


def test_a_finding_as_json_has_nulls_for_what_is_not_known() -> None:
    assert finding_document(CHANGED) == {
        "topic": "isos.memory.events.v1",
        "partition": 0,
        "offset": 1,
        "sequence": 2,
        "what": "it was changed",
    }
    assert (finding_document(CUT_OFF)["offset"], finding_document(CUT_OFF)["sequence"]) == (None, None)


def test_the_first_findings_are_told_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tell("void", [CHANGED] * (MAX_LISTED + 3))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"void: {sentence(CHANGED)}"] * MAX_LISTED + ["void: and 3 more; --output json lists all."]


def test_a_head_is_read_back() -> None:
    head = MemoryHead(41, bytes(range(32)))
    assert noted(head_text(head)) == head
    assert noted("") is None
    with pytest.raises(typer.BadParameter, match="SEQUENCE:HASH"):
        noted("12")
