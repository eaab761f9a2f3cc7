"""``python -m tests.sim.memory_fold [--events N]``: N memory events, folded by two fresh processes to the same bytes.

The events are made by the real Orchestrator's own form of event over a few thousand keys, and are written to a file as
they stand on the topic: encoded, each with the hash of the one before. Two processes with different hash seeds then
decode and fold it, as every reader of memory does, and say the SHA-256 of the state as canonical JSON, how long it took
and how much memory it needed. Exit code 1 when the two differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.memory import MemoryEvent
from schemas.plan import Plan, VersionWeight
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import ZERO_HASH, MemoryView

KEYS: Final = 2_000
BATCH: Final = 500
"""Events that a reader gets at once, as from a fetch."""
TOPIC: Final = "memory.events"


def events(number: int) -> Iterator[bytes]:
    """Encoded events: plans of many models, and keys that come and go."""
    codec, rng, last = Codec(SchemaIds.local()), random.Random(7), ZERO_HASH
    versions: dict[str, int] = {}
    for sequence in range(1, number + 1):
        model = f"model-{rng.randrange(KEYS):04d}"
        key = f"plan/{model}" if rng.random() < 0.7 else f"incident/{rng.randrange(KEYS)}"
        versions[key] = versions.get(key, 0) + 1
        body: str | None = to_json(Plan(model, (VersionWeight("v1.0.0", 100),), rng.randint(1, 128), 30_000))
        if key.startswith("incident/") and rng.random() < 0.5:
            body = None
        event = MemoryEvent(
            sequence, last, f"c{sequence}", "planner", "PlanMadeEffective", key, versions[key], body, "because", (),
            sequence,
        )  # fmt: skip
        value = codec.encode(TOPIC, event)
        last = hashlib.sha256(value).digest()
        yield value


def write(path: Path, number: int) -> None:
    """The events with their lengths."""
    with path.open("wb") as file:
        for value in events(number):
            file.write(len(value).to_bytes(4, "little") + value)


def fold(path: Path) -> dict[str, object]:
    """Read and fold; what came of it."""
    codec, view, began = Codec(SchemaIds.local()), MemoryView(), time.perf_counter()
    batch: list[StoredEvent] = []
    voids = 0
    with path.open("rb") as file:
        while size := file.read(4):
            value = file.read(int.from_bytes(size, "little"))
            batch.append(StoredEvent.of(codec.decode(TOPIC, value), value))
            if len(batch) == BATCH:
                view, refused = extend(view, batch)
                voids, batch = voids + len(refused), []
    view, refused = extend(view, batch)
    seconds = time.perf_counter() - began
    state = to_json((view.sequence, view.last_hash, dict(view.entries))).encode()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "sequence": view.sequence, "keys": len(view.entries), "voids": voids + len(refused),
        "state_sha256": hashlib.sha256(state).hexdigest(), "state_bytes": len(state),
        "seconds": round(seconds, 2), "events_per_s": round(view.sequence / seconds), "peak_mib": peak,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Write, fold twice, compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.memory_fold")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--fold", type=Path, help="fold this file in this process and say what came of it")
    given = parser.parse_args(arguments)
    if given.fold is not None:
        print(json.dumps(fold(given.fold)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events"
        began = time.perf_counter()
        write(path, given.events)
        size = path.stat().st_size
        print(f"{given.events} events, {size / 2**20:.0f} MiB, made in {time.perf_counter() - began:.0f} s", flush=True)
        found = [_elsewhere(path, seed) for seed in ("0", "1")]
    for each in found:
        print(json.dumps(each))
    same = found[0]["state_sha256"] == found[1]["state_sha256"] and found[0]["sequence"] == given.events
    print("the same bytes" if same else "the states differ")
    return 0 if same else 1


def _elsewhere(path: Path, seed: str) -> dict[str, object]:
    argv = [sys.executable, "-m", "tests.sim.memory_fold", "--fold", str(path)]
    done = subprocess.run(argv, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
