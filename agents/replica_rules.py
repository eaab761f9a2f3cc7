"""Rule of the Orchestrator for ``replicas/<pool>``: how many executors of a pool are ready, as its supervisor says."""

from __future__ import annotations

import re
from typing import Final

from agents.verdict import Change, Refusal, State, Verdict
from schemas.memory import MemoryCommand
from schemas.scaling import MOST_REPLICAS, Replicas
from streams.canonical import from_json, to_json

POOL: Final = re.compile(r"[a-z][a-z0-9\-]{0,63}")


def note_replicas(state: State, command: MemoryCommand) -> Verdict:
    """Note how many replicas are ready; Routers use as many lanes. The newest word of the supervisor stands."""
    del state
    noted = from_json(Replicas, command.body)
    if not POOL.fullmatch(noted.pool) or command.key != f"replicas/{noted.pool}":
        return Refusal(
            "invalid_body", f"The replicas of {noted.pool} stand under replicas/{noted.pool}, not under {command.key}."
        )
    if not 0 <= noted.replicas <= MOST_REPLICAS:
        return Refusal("invalid_replicas", f"A pool has 0 to {MOST_REPLICAS} replicas, not {noted.replicas}.")
    return (Change("ReplicasNoted", command.key, to_json(noted)),)
