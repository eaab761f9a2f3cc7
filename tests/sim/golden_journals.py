"""Journals of a release, kept: recorded from simulated worlds, with what is needed to decide them again later.

A file holds one agent's journal, packed: a line with the release, the agent's parameters and the schemas by their ids,
then the records of the partition. ``ISOS_REWRITE_GOLDEN=1`` records those of the present release anew, which changes
what stands in the repository and so is a visible choice; those of earlier releases stay as they are.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import lzma
import random
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from streams.agent import AgentSpec
from streams.canonical import from_json, to_json
from streams.codec import RegisteredSchema, SchemaIds
from streams.control.journal_reader import replay_codec
from streams.control.replay import Difference, Replay
from streams.topics import JOURNALED_AGENTS
from tests.sim.control_agents import WHOLE
from tests.sim.planted_control import CALM
from tests.sim.profile import Profile
from tests.sim.scheduler import Simulation

FOLDER: Final = Path(__file__).parents[1] / "golden" / "journals"
WORLDS: Final = {"scaler": "scaling", "reviewer": "reviews", "planner": ""}
"""What is told of most in the world that an agent's journal is recorded in; of the others, roll-backs."""
PLACE: Final = struct.Struct("<qI")
STEPS: Final = 2_500
SEED: Final = 3


def release() -> str:
    """The version of this checkout."""
    return importlib.metadata.version("ml-isos")


def spec_of(agent: str) -> AgentSpec:
    """The agent as simulated worlds run it."""
    return next(spec for spec in WHOLE if spec.name == agent)


def record() -> None:
    """Write the journals of this release."""
    folder = FOLDER / release()
    folder.mkdir(parents=True, exist_ok=True)
    worlds: dict[str, Simulation] = {}
    for agent in JOURNALED_AGENTS:
        focus = WORLDS.get(agent, "roll-backs")
        if focus not in worlds:
            worlds[focus] = _run(focus)
        (folder / f"{agent}.journal.xz").write_bytes(_packed(agent, worlds[focus]))


def _run(focus: str) -> Simulation:
    logging.disable(logging.CRITICAL)  # it warns of what is simulated here
    try:
        drawn = Profile.drawn(random.Random(SEED))
        profile = replace(drawn, **{**CALM, "focus": focus, "production": focus == "reviews"})
        simulation = Simulation(SEED, profile)
        report = simulation.run(STEPS)
    finally:
        logging.disable(logging.NOTSET)
    if report.violation is not None:
        raise AssertionError(report.text())
    return simulation


def _packed(agent: str, simulation: Simulation) -> bytes:
    ids, records = SchemaIds.local(), list(simulation.world.log.scan("control.journal", JOURNALED_AGENTS.index(agent)))
    used = _used(simulation, [each.value or b"" for each in records])
    head = {
        "release": release(),
        "agent": agent,
        "params": to_json(spec_of(agent).params),
        "write_ids": {subject: number for subject, number in ids.write_ids.items() if number in used},
        "schemas": {
            number: {"text": each.text, "normal": each.normal, "subjects": sorted(each.subjects)}
            for number, each in ids.by_id.items()
            if number in used
        },
    }
    return packed(json.dumps(head, sort_keys=True), [(each.offset, each.value or b"") for each in records])


def packed(head: str, records: Iterable[tuple[int, bytes]]) -> bytes:
    """A file: the head, a line feed, and per record its offset, its length and its bytes."""
    body = b"".join(PLACE.pack(offset, len(value)) + value for offset, value in records)
    return lzma.compress(head.encode() + b"\n" + body, preset=9)


def unpacked(path: Path) -> tuple[dict[str, Any], list[tuple[int, bytes]]]:
    """Head and records of a file."""
    head, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
    records, at = [], 0
    while at < len(body):
        offset, size = PLACE.unpack_from(body, at)
        at += PLACE.size
        records.append((offset, body[at : at + size]))
        at += size
    return json.loads(head), records


def _used(simulation: Simulation, values: list[bytes]) -> set[int]:
    """The ids of the schemas that a journal's records, their inputs and their effects were written with."""
    entries = [simulation.world.codec.decode("control.journal", value) for value in values]
    given = [entry.input_value or b"" for entry in entries if entry.kind == "record"]
    sent = [effect.value or b"" for entry in entries for effect in entry.effects]
    return {int.from_bytes(value[1:5], "big") for value in (*values, *given, *sent) if value[:1] == bytes(1)}


def kept() -> list[Path]:
    """Every journal that is kept, by release and agent."""
    return sorted(FOLDER.glob("*/*.journal.xz"))


def replayed(path: Path) -> tuple[Replay, list[Difference]]:
    """A kept journal decided again by the code as it is now, with the parameters of then; and what differs."""
    facts, records = unpacked(path)
    schemas = {
        int(number): RegisteredSchema(int(number), each["text"], each["normal"], frozenset(each["subjects"]))
        for number, each in facts["schemas"].items()
    }
    spec = spec_of(facts["agent"])
    if spec.params is not None:
        spec = replace(spec, params=from_json(type(spec.params), facts["params"], newer=True))
    replay = Replay(spec, replay_codec(SchemaIds(facts["write_ids"], schemas)))
    found = []
    for offset, value in records:
        difference = replay.take(offset, value)
        if difference is not None:
            found.append(difference)
    last = replay.end()
    return replay, found if last is None else [*found, last]
