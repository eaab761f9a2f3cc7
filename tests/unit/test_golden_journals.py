"""Journals of releases, decided again: a changed decision of a control agent is seen here, and is a choice.

``ISOS_REWRITE_GOLDEN=1`` records those of the present release anew; those of earlier ones stay.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from streams.agent import NO_EFFECTS
from streams.topics import JOURNALED_AGENTS
from tests.sim import golden_journals
from tests.sim.golden_journals import FOLDER, kept, packed, record, release, replayed, spec_of, unpacked

MAX_BYTES = 200 * 1024

if os.environ.get("ISOS_REWRITE_GOLDEN"):
    record()


@pytest.mark.parametrize("path", kept(), ids=lambda path: f"{path.parent.name}/{path.name.partition('.')[0]}")
def test_what_a_release_decided_is_decided_again(path: Path) -> None:
    replay, found = replayed(path)
    assert found == []
    assert replay.num_entries > 20
    assert replay.num_passed == 0


def test_every_agent_of_this_release_has_one_and_they_are_small() -> None:
    mine = FOLDER / release()
    assert sorted(path.name.partition(".")[0] for path in mine.glob("*.xz")) == sorted(JOURNALED_AGENTS)
    assert sum(path.stat().st_size for path in mine.glob("*.xz")) <= MAX_BYTES


def test_each_journal_has_decisions_in_it() -> None:
    """What decides nothing would always be decided again."""
    for path in (FOLDER / release()).glob("*.xz"):
        agent = path.name.partition(".")[0]
        spec = replace(spec_of(agent), decide=lambda state, event, params: (state, NO_EFFECTS))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(golden_journals, "spec_of", lambda _, spec=spec: spec)
            _, found = replayed(path)
        assert found, f"an agent that does nothing replays the journal of the {agent}"


def test_a_changed_byte_is_named(tmp_path: Path) -> None:
    path = FOLDER / release() / "orchestrator.journal.xz"
    head, records = unpacked(path)
    offset, value = records[10]
    changed = bytearray(value)
    changed[len(changed) // 2] ^= 1
    records[10] = offset, bytes(changed)
    spoiled = tmp_path / path.name
    spoiled.write_bytes(packed(json.dumps(head), records))
    _, found = replayed(spoiled)
    assert found
    assert found[0].offset == offset
