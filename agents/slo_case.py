"""One objective of a model at one speed: whether it burns, whom to blame, and the alert that says so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agents.slo_counts import Count, Objective, Share, Versions, shares, total
from schemas.coordinate import RecordCoordinate
from schemas.serving import Slo
from schemas.telemetry import Alert
from streams.agent import Publish
from streams.canonical import to_json


@dataclass(frozen=True, slots=True)
class Speed:
    """Two windows in microseconds, and the burn rate in percent that alerts where both have it."""

    name: str
    short_us: int
    long_us: int
    burn_percent: int
    severity: str


@dataclass(frozen=True, slots=True)
class SloParams:
    """``speeds``: fastest first. ``slot_us``: what windows are counted in; they are up to one slot longer.

    ``min_rows``, ``min_bad``: with fewer in the long window no alert is raised. ``settle_us``: for so long rows of a
    version that was rolled back from are not counted, for they were under way. ``loading_us``: for so long after a
    version took another's place its times are not counted, for executors load it.
    """

    speeds: tuple[Speed, ...] = (
        Speed("fast", 10_000_000, 120_000_000, 1_440, "critical"),
        Speed("slow", 60_000_000, 720_000_000, 600, "warning"),
    )
    slot_us: int = 10_000_000
    min_rows: int = 50
    min_bad: int = 5
    settle_us: int = 5_000_000
    loading_us: int = 5_000_000

    def first_us(self, now_us: int, span_us: int) -> int:
        """Where the first slot begins that reaches into a window of ``span_us``."""
        since_us = now_us - span_us
        return since_us - since_us % self.slot_us


@dataclass(frozen=True, slots=True)
class Judged:
    """A model with its SLO. ``raised``: when the alert of ``<objective>/<speed>`` was raised that stands.

    ``active``: the version that serves, empty while that is not known; ``active_us``: when it took the place of another
    since the SLO is known, else 0; ``left``: the one that was rolled back from then. ``served_us``: when a policy had
    its rows served otherwise than before, else 0.
    """

    slo: Slo
    cause: RecordCoordinate
    versions: Versions = field(default_factory=dict)
    raised: Mapping[str, int] = field(default_factory=dict)
    active: str = ""
    active_us: int = 0
    left: str = ""
    served_us: int = 0


@dataclass(frozen=True, slots=True)
class Burn:
    """Rows of a window, those that were bad, and how many times too fast they spend the budget."""

    seconds: int
    num_rows: int
    num_bad: int
    burn: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an alert is raised or resolved; ``versions`` are those of the long window.

    ``judged``: the version whose rows alone are in the windows, empty where those of all are.
    """

    objective: Objective
    speed: str
    slo: Slo
    threshold: float
    short: Burn
    long: Burn
    versions: tuple[Share, ...]
    judged: str = ""


@dataclass(frozen=True, slots=True)
class SloCase:
    """One objective of a model at one speed, now; ``alone``: only by the rows of this version, counted ``since``.

    ``from_us``: rows before count nowhere.
    """

    model: str
    judged: Judged
    objective: Objective
    allowed_ppm: int
    speed: Speed
    now_us: int
    params: SloParams
    alone: str = ""
    since: str = "since it is active"
    from_us: int = 0

    @property
    def key(self) -> str:
        """Name of the alert among those of the model."""
        return f"{self.objective}/{self.speed.name}"

    def is_hushed(self, raised: Mapping[str, int]) -> bool:
        """Whether the alert of a faster speed stands."""
        faster = self.params.speeds[: self.params.speeds.index(self.speed)]
        return any(f"{self.objective}/{each.name}" in raised for each in faster)

    def due(self) -> SloCase | None:
        """What is to be complained of: this case, what is new alone (a version, or how it is served), or nothing."""
        if self._is_due():
            return self
        if self.speed is not self.params.speeds[0]:
            return None
        return next((each for each in self._trials() if each._is_due()), None)

    def _trials(self) -> Iterator[SloCase]:
        """The active version by itself, for as long as the rows of what was before could hide its own."""
        judged, slot_us = self.judged, self.params.slot_us
        if self.now_us - judged.active_us < self.speed.long_us:
            yield replace(self, alone=judged.active)
        if judged.active and self.now_us - judged.served_us < self.speed.long_us:
            first_us = -(-judged.served_us // slot_us) * slot_us  # the slot before holds rows of both ways
            yield replace(self, alone=judged.active, since="since it is served otherwise", from_us=first_us)

    def blamed(self) -> str:
        """The version that alone is judged, or the only one that burns in the long window; empty for several."""
        if self.alone:
            return self.alone
        percent = self.speed.burn_percent
        burning = [
            each.version
            for each in self._shares(self.speed.long_us)
            if Count(each.num_rows, each.num_bad).burns(self.allowed_ppm, percent)
        ]
        return burning[0] if len(burning) == 1 else ""

    def _is_due(self) -> bool:
        """Whether both windows burn, by enough rows."""
        if not self._burns(self.speed.short_us):
            return False
        long = total(self._shares(self.speed.long_us))
        is_enough = long.num_rows >= self.params.min_rows and long.num_bad >= self.params.min_bad
        return is_enough and self._burns(self.speed.long_us)

    def is_over(self) -> bool:
        """Whether neither window burns, by rows of now."""
        if not self._shares(self.speed.short_us):
            return False
        return not self._burns(self.speed.short_us) and not self._burns(self.speed.long_us)

    def complaint(self) -> str:
        """What is wrong, as a sentence without a full stop."""
        count, slo = total(self._shares(self.speed.long_us)), self.judged.slo
        name = f"{self.model} {self.alone}" if self.alone else self.model
        late = f"OK answers of {name} took longer than {slo.latency_ms} ms"
        what = late if self.objective == "latency" else f"rows of {name} ended as ERROR or EXPIRED"
        since = self.since if self.alone else f"within {self.speed.long_us // 1_000_000} s"
        allowed = f"{count.burn(self.allowed_ppm):g} times what its SLO allows"
        return f"{count.num_bad} of {count.num_rows} {what} {since}, {allowed}"

    def alert(self, raised_us: int, message: str, *, resolved: bool) -> Publish:
        """The alert that was raised at ``raised_us``."""
        alert = Alert(
            alert_id=f"slo_burn/{self.model}/{self.key}/{raised_us}",
            kind="slo_burn",
            subject=self.model,
            severity=self.speed.severity,
            message=f"{message}.",
            evidence=to_json(self._evidence()),
            resolved=resolved,
            time_us=self.now_us,
            causes=(self.judged.cause,),
            model=self.model,
            version=self.blamed(),
        )
        return Publish("control.alerts", self.model.encode(), alert)

    def _evidence(self) -> Evidence:
        threshold, short, long = self.speed.burn_percent / 100, self.speed.short_us, self.speed.long_us
        at = self.objective, self.speed.name, self.judged.slo, threshold
        return Evidence(*at, self._burn(short), self._burn(long), self._shares(long), self.alone)

    def _shares(self, span_us: int) -> tuple[Share, ...]:
        first_us = max(self.from_us, self.params.first_us(self.now_us, span_us))
        found = shares(self.judged.versions, self.objective, first_us)
        return tuple(each for each in found if each.version == self.alone) if self.alone else found

    def _burns(self, span_us: int) -> bool:
        return total(self._shares(span_us)).burns(self.allowed_ppm, self.speed.burn_percent)

    def _burn(self, span_us: int) -> Burn:
        count = total(self._shares(span_us))
        return Burn(span_us // 1_000_000, count.num_rows, count.num_bad, count.burn(self.allowed_ppm))
