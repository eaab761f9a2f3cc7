"""The loop's pure parts; its life on a broker is in tests/integration/test_control_loop.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.researcher import RESEARCHER
from streams.connection import Connection
from streams.control import control_loop
from streams.control.control_loop import ControlLoop
from streams.control.generation import Generation, Waiting
from streams.control.journal import Input
from streams.errors import InvariantError
from streams.predecessor import MemberNote
from tests.support.event_store_contract import CODEC
from tests.support.partitions import MemoryPartitions


def test_only_journaled_agents_that_consume(tmp_path: Path) -> None:
    for spec in (replace(RESEARCHER, journaled=False), replace(RESEARCHER, consumes=())):
        with pytest.raises(InvariantError, match="runs journaled agents"):
            ControlLoop(
                spec,
                Connection("127.0.0.1:1"),
                CODEC,
                MemoryPartitions(),
                data_dir=str(tmp_path),
                on_defect=lambda error: None,
            )


async def test_inputs_schemas_are_looked_for_before_a_round(tmp_path: Path) -> None:
    asked: list[tuple[str, bytes | None]] = []

    async def prepare(topic: str, value: bytes | None) -> None:
        asked.append((topic, value))

    schemas: Any = SimpleNamespace(prepare=prepare)
    loop = ControlLoop(
        RESEARCHER,
        Connection("127.0.0.1:1"),
        CODEC,
        MemoryPartitions(),
        data_dir=str(tmp_path),
        on_defect=lambda error: None,
        schemas=schemas,
    )
    await loop._learn([Input("memory.events", 0, 1, b"", b"v"), Input(), Input("memory.events", 0, 2)])
    assert asked == [("memory.events", b"v"), ("memory.events", None)]


async def test_a_round_takes_what_comes_while_its_agent_gathers(tmp_path: Path) -> None:
    rounds: list[list[int]] = []
    acks: list[int] = []
    enough = asyncio.Event()

    class Tenure:
        age_s = 0.0
        agent = SimpleNamespace(sequence=0)

        async def round(self, inputs: list[Input], _now_us: int) -> None:
            rounds.append([given.offset for given in inputs])
            if len(rounds) == 2:
                enough.set()

    loop = ControlLoop(
        replace(RESEARCHER, gather_ms=50, tick_ms=0),
        Connection("127.0.0.1:1"),
        CODEC,
        MemoryPartitions(),
        data_dir=str(tmp_path),
        on_defect=lambda error: None,
    )
    generation = Generation()

    def arrive(offset: int) -> None:
        event = SimpleNamespace(ack=lambda: acks.append(offset))
        generation.inbox.append(Waiting(Input("memory.events", 0, offset), event))
        generation.wake.set()

    tenure: Any = Tenure()
    serving = asyncio.ensure_future(loop._rounds(tenure, generation))
    await asyncio.sleep(0)  # it waits
    arrive(1)
    await asyncio.sleep(0)  # it gathers
    arrive(2)
    while not rounds:
        await asyncio.sleep(0.001)
    arrive(3)
    await asyncio.wait_for(enough.wait(), 30)
    serving.cancel()
    assert rounds == [[1, 2], [3]]
    assert acks[:2] == [1, 2]


async def test_who_it_is_in_its_group_is_noted_also_by_a_standby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = MemberNote(tmp_path / "control-0.researcher.member")
    loop = ControlLoop(
        RESEARCHER,
        Connection("127.0.0.1:1"),
        CODEC,
        MemoryPartitions(),
        data_dir=str(tmp_path),
        on_defect=lambda error: None,
        note=note,
    )
    monkeypatch.setattr(control_loop, "member_of", lambda _app: "member-7")
    await loop._assigned(None, [])
    assert (note.read(), loop.role) == (("isos-researcher", "member-7"), "standby")
