"""What one run of the load generator is told: a JSON file that whoever starts it writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from infra.bench.template import Load
from streams.topics import full_name

TICK_MS: Final = 5.0
LINGER_MS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Config:
    """One run. ``seconds`` 0 = until told to stop; ``limit_s`` ends the sending in any case; times in seconds.

    ``schema_id`` is the id of the requests subject in the registry. ``run`` (8 characters) begins every request id.
    ``steps`` are (rate per second, seconds) one after the other; where there are any, they take the place of ``rate``
    and ``seconds``. Requests that have become due leave every ``tick_ms``; the producer's linger is ``linger_ms``.
    ``confirm``: note the acknowledgement of every request, so that where it was written is known before its result is
    there, and send again what the broker did not confirm; otherwise places are learned from results and failures are
    only noted, which costs less.
    """

    brokers: str
    schema_id: int
    loads: tuple[Load, ...]
    rate: float
    out: str
    run: str
    seconds: float = 0.0
    warmup_s: float = 0.0
    limit_s: float = 600.0
    drain_s: float = 30.0
    timeout_ms: int = 0
    seed: int = 1
    interactive: bool = False
    steps: tuple[tuple[float, float], ...] = ()
    tick_ms: float = TICK_MS
    linger_ms: float = LINGER_MS
    confirm: bool = True
    requests_topic: str = field(default_factory=lambda: full_name("inference.requests"))
    results_topic: str = field(default_factory=lambda: full_name("inference.results"))

    def write(self, path: Path) -> None:
        """Write as JSON for the generator's command line."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read what ``write`` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        loads = tuple(Load(**{**load, "item_shape": tuple(load["item_shape"])}) for load in fields.pop("loads"))
        steps = tuple((float(rate), float(seconds)) for rate, seconds in fields.pop("steps"))
        return cls(loads=loads, steps=steps, **fields)
