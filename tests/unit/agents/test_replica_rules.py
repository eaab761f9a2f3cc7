"""Only a pool's supervisor says how many replicas are ready, under the pool's own key, within bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import judge
from agents.replica_rules import note_replicas
from agents.verdict import Change, Refusal, State, Value
from schemas.memory import MemoryCommand
from schemas.scaling import MOST_REPLICAS, Replicas
from streams.canonical import to_json
from streams.memory_view import replicas
from tests.support.frames import memory


def command(pool: str = "executors", count: int = 2, key: str = "replicas/executors") -> MemoryCommand:
    body = to_json(Replicas(pool, count, "executors/5"))
    return MemoryCommand("c1", "supervisor", "NoteReplicas", key, -1, body, "2 executors are ready", (), 0)


def test_it_is_noted_and_the_next_word_replaces_it() -> None:
    expected = (Change("ReplicasNoted", "replicas/executors", to_json(Replicas("executors", 2, "executors/5"))),)
    assert judge(State(), command()) == expected
    standing = {"replicas/executors": Value(7, to_json(Replicas("executors", 3, "executors/4")))}
    assert judge(State(values=standing), command()) == expected
    fulfilled = {"replicas/executors": Value(7, command().body)}
    assert judge(State(values=fulfilled), command()) == ()


def test_nobody_else_may_note_it() -> None:
    refused = judge(State(), replace(command(), agent="scaler"))
    assert isinstance(refused, Refusal)
    assert refused.code == "not_permitted"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (command(key="replicas/other"), "invalid_body"),
        (command(pool="../x", key="replicas/../x"), "invalid_body"),
        (command(count=-1), "invalid_replicas"),
        (command(count=MOST_REPLICAS + 1), "invalid_replicas"),
    ],
)
def test_what_is_refused(given: MemoryCommand, code: str) -> None:
    refused = note_replicas(State(), given)
    assert isinstance(refused, Refusal)
    assert refused.code == code


def test_readers_of_memory_see_it() -> None:
    assert replicas(memory(Replicas("executors", 2, "executors/5")), "executors") == Replicas(
        "executors", 2, "executors/5"
    )
    assert replicas(memory(), "executors") is None
