"""A round of a roll-back on a running stack: a version proves itself, a bad one takes its place and has to give way.

``python -m tests.support.rollback --rounds 10`` starts a stack of its own, and writes ``results/rollback.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from executors.model_store import ModelStore
from infra.log_reader import LogReader
from infra.registration import Registrar
from infra.serving_control import ServingControl
from schemas.known_good import Rollback
from schemas.memory import MemoryEvent
from schemas.serving import Slo
from schemas.telemetry import Alert
from streams.canonical import from_json
from streams.client.client import Answer, Client
from streams.client.request import Request
from streams.connection import Connection
from streams.memory_view import MemoryView, active_version, known_good, last_rollback, plan
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import SESSION_S, RunningStack, stack_settings

GOOD_S = 2
GOOD_ROWS = 100
TICK_S = 0.05
ROWS = 10
BAD = 3
"""Of ``ROWS`` rows each ``TICK_S``, those that the bad version cannot answer: 200 rows a second, 30 % of them."""
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """Figures of a round in milliseconds.

    ``detected_ms``: from the first bad row's result to the alert that triggered it. From the alert, ``decided_ms``: to
    the other version in memory, ``planned_ms``: to its plan, ``effective_ms``: to the first row that a Router sent by
    that plan, ``last_bad_ms``: to the last row that was sent to the bad version.
    """

    model: str
    num_rows: int
    num_bad: int
    detected_ms: float
    decided_ms: float
    planned_ms: float
    effective_ms: float
    last_bad_ms: float


class Traffic:
    """Rows of one model, each tick some, until the end; every one has an answer, or the round fails.

    ``bad``: what the first ``num_bad`` rows of a tick hold; the others hold 1.
    """

    def __init__(self, client: Client, model: str, bad: float = -1.0, num_bad: int = BAD) -> None:
        self._client = client
        self._model = model
        self._values = [*[bad] * num_bad, *[1.0] * (ROWS - num_bad)]
        self._calls: list[asyncio.Task[Answer]] = []
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        """Send until told to end."""
        while not self._is_over.is_set():
            for value in self._values:
                row = Request(self._model, {"x": np.full((1, 4), value, np.float32)})
                self._calls.append(asyncio.create_task(self._client.submit(row)))
            try:
                async with asyncio.timeout(TICK_S):
                    await self._is_over.wait()
            except TimeoutError:
                continue

    async def end(self) -> list[Answer]:
        """Stop sending; the answers to all that was sent."""
        self._is_over.set()
        return await asyncio.gather(*self._calls)


def proving_settings(folder: Path, **flags: Any) -> Any:
    """Settings of a stack on which versions prove themselves in seconds."""
    quick = {"known_good_s": GOOD_S, "known_good_rows": GOOD_ROWS, "session_timeout_s": SESSION_S, "partitions": 1}
    return stack_settings(folder, **{**quick, **flags})


async def registered(stack: RunningStack, *blobs: bytes, slo: Slo | None = None) -> str:
    """A new model whose versions v1.0.0, v2.0.0 .. are these, the first one active, with an SLO."""
    name, connection = unique("proving"), Connection(stack.settings.bootstrap)
    async with Registrar(connection, ModelStore(stack.settings.data_dir), PATIENCE_S) as registrar:
        for number, blob in enumerate(blobs, start=1):
            await registrar.register(blob, models.version_of(blob, name=name, version=f"v{number}.0.0"))
    if slo is not None:
        async with ServingControl(connection, PATIENCE_S) as control:
            await control.set_policy(name, lambda policy: replace(policy, slo=slo))
    return name


async def rolled_back(stack: RunningStack, client: Client) -> tuple[Round, list[Answer]]:
    """One round with a new model; raises AssertionError or WatchTimeoutError where it does not come to its end."""
    connection = Connection(stack.settings.bootstrap)
    model = await registered(stack, models.identity(), models.nan(), slo=Slo(0, 0, 1_000))
    traffic = Traffic(client, model)
    sending = asyncio.create_task(traffic.run())
    async with ServingControl(connection, PATIENCE_S) as control:
        await control.wait_for(lambda view: known_good(view, model) is not None, f"{model} v1.0.0 known as good")
        await control.activate(model, "v2.0.0")
        await control.wait_for(lambda view: active_version(view, model) == "v1.0.0", f"the roll-back of {model}")
        await control.wait_for(lambda view: _serves(view, model, "v1.0.0"), f"the plan of {model} with v1.0.0")
        await control.wait_for(
            lambda view: (
                f"rollback/{model}" not in "".join(k for k in view.entries if k.startswith("incident/rollback/"))
            ),
            f"the verification of the roll-back of {model}",
        )
    answers = await traffic.end()
    await sending
    return await _figures(connection, model, answers), answers


def _is_verified(view: MemoryView, model: str) -> bool:
    last = last_rollback(view, model)
    is_open = any(key.startswith(f"incident/rollback/{model}/") for key in view.entries)
    return last is not None and last.state == "verified" and not is_open


def _serves(view: MemoryView, model: str, version: str) -> bool:
    effective = plan(view, model)
    return effective is not None and [share.version for share in effective.versions] == [version]


async def _figures(connection: Connection, model: str, answers: list[Answer]) -> Round:
    reader = await LogReader.connect(connection)
    events = [stored.event for stored in await reader.memory_events()]
    alerts = [each.record for each in await reader.read("control.alerts")]
    started = from_json(Rollback, _first(events, "RollbackStarted", f"rollback/{model}").body or "")
    alert: Alert = next(each for each in alerts if each.alert_id == started.trigger)
    back = _first(events, "VersionRolledBack", f"active/{model}")
    planned = next(each for each in events if each.key == f"plan/{model}" and each.sequence > back.sequence)
    results = [answer.result for answer in answers]
    bad = [each for each in results if each.model_version == "v2.0.0"]
    after = [each for each in results if each.provenance.memory_sequence >= planned.sequence]

    def since_ms(time_us: int) -> float:
        return round((time_us - alert.time_us) / 1e3, 1)

    return Round(
        model=model,
        num_rows=len(results),
        num_bad=sum(each.status != "OK" for each in results),
        detected_ms=-since_ms(min(each.timing.completed_us for each in results if each.status != "OK")),
        decided_ms=since_ms(back.time_us),
        planned_ms=since_ms(planned.time_us),
        effective_ms=since_ms(min(each.timing.routed_us for each in after)),
        last_bad_ms=since_ms(max(each.timing.routed_us for each in bad)),
    )


def _first(events: list[MemoryEvent], kind: str, key: str) -> MemoryEvent:
    return next(each for each in events if (each.kind, each.key) == (kind, key))


async def _rounds(stack: RunningStack, number: int) -> list[Round]:
    found = []
    async with Client(stack.settings.bootstrap) as client:
        for _ in range(number):
            found.append((await rolled_back(stack, client))[0])
            print(found[-1], flush=True)
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningStack(proving_settings(Path(folder))) as stack:
        stack.wait_ready()
        found = asyncio.run(_rounds(stack, given.rounds))
        ledger = stack.isos("ledger", "--drained", "--output", "json", check=False)
    names = ("detected_ms", "decided_ms", "planned_ms", "effective_ms", "last_bad_ms")
    medians = {name: statistics.median(getattr(each, name) for each in found) for name in names}
    document = {
        "scenario": "rollback",
        "rounds": [asdict(each) for each in found],
        "median": medians,
        "ledger_exit": ledger.returncode,
        "ledger": json.loads(ledger.stdout),
    }
    results = Path("results")
    results.mkdir(exist_ok=True)
    (results / "rollback.json").write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(medians), f"ledger: exit code {ledger.returncode}")


if __name__ == "__main__":
    _main()
