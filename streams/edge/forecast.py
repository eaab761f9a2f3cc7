"""When a row would be done if it were admitted now, by what executors say of their load; pure.

A version is known by the newest report that names it (``streams/edge/service.py``). A version whose frames several
executors take in turn is known by the newest report of any of them, and each takes its part of what was admitted since;
where frames go to the one with least to do (``streams/edge/steering.py``), it is known by that one's. Without a report,
or with an old one only, there is no forecast and all are admitted.

Bounds: a state per version that a report named and that is not long unused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from schemas.load import ExecutorLoad, VersionLoad
from streams.edge.service import FORGET_US, PRIORITIES, NewestReport, Service, Version

MAX_LAG_US: Final = 500_000
"""How old a report may be when it comes; beyond that its executor's clock is off."""


class Forecast:
    """The newest reports of all executors, and the services by version that they make up.

    ``spreads``: whether frames of a model go to the executor that has least to do at a time (us).
    """

    def __init__(self, spreads: Callable[[str, int], bool] = lambda _model, _now_us: False) -> None:
        self._spreads = spreads
        self._executors: dict[str, NewestReport] = {}
        self._services: dict[Version, Service] = {}
        self._main: dict[str, Service] = {}
        """By model the version that takes most rows: where rows go that pin none."""

    def take(self, load: ExecutorLoad, now_us: int) -> None:
        """Take a report that has just come."""
        last = self._executors.get(load.executor)
        versions = {(each.model, each.version): each for each in load.versions}
        before = {} if last is None else last.counted
        made_us = min(max(load.sent_us, now_us - MAX_LAG_US), now_us)
        is_idle = not any(each.running_us or any(each.waiting_items) for each in load.versions)
        counted = before | {version: (each.num_taken, each.num_late) for version, each in versions.items()}
        executor = self._executors[load.executor] = NewestReport(made_us, now_us, load, is_idle, versions, counted)
        recent = before if last is not None and now_us - last.came_us < FORGET_US else {}
        for version, service in list(self._services.items()):
            if service.executor is last and version not in versions:
                service.renew(_empty(service.load), executor, recent.get(version))
                if service.is_forgotten:
                    self._forget(version, service)
        for version, each in versions.items():
            known = self._services.get(version)
            is_new = each.num_taken != before.get(version, (0, 0))[0]
            if known is not None and known.executor is not last and not is_new:
                continue  # only copies of its rows are here
            service = self._services.setdefault(version, known or Service(each, executor))
            if is_new:
                service.took(load.executor, now_us)
            is_other = service.executor is not last and service.executor is not executor
            if is_other and self._spreads(each.model, now_us) and service.is_shorter(each, executor, now_us):
                service.count(each, recent.get(version))
                continue
            service.renew(each, executor, recent.get(version) if service is known else None)
            main = self._main.get(each.model)
            if main is None or main.rows_taken <= service.rows_taken or main.executor.came_us + FORGET_US < now_us:
                self._main[each.model] = service

    def _forget(self, version: Version, service: Service) -> None:
        del self._services[version]
        if self._main.get(version[0]) is service:
            del self._main[version[0]]

    def service(self, model: str, version: str, now_us: int) -> Service | None:
        """Who serves rows of a model that pin a version (or "" for none); None where nothing new is known."""
        found = self._services.get((model, version)) if version else self._main.get(model)
        if found is None:
            return None
        if now_us - found.executor.came_us > FORGET_US:
            if found.sent:
                found.sent.clear()
            return None
        return found

    def waits_us(self, now_us: int, priority: int = PRIORITIES - 1) -> Iterator[tuple[Version, float]]:
        """How long a row of each version would wait now, of those of which something is known."""
        one = np.ones(1)
        for version, service in self._services.items():
            if now_us - service.executor.came_us <= FORGET_US:
                yield version, float(service.finish_us(priority, 0 * one, one, now_us)[1][0])

    @property
    def executors(self) -> Mapping[str, ExecutorLoad]:
        """The newest report of each executor."""
        return {name: executor.load for name, executor in self._executors.items()}


def _empty(load: VersionLoad) -> VersionLoad:
    return VersionLoad(
        load.model, load.version, load.fixed_us, load.per_item_us, load.max_batch_size, load.is_long, 0.0,
        load.num_taken, load.num_late, (),
    )  # fmt: skip
