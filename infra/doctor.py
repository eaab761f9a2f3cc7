"""Look at everything the program needs and say of each whether it is well, and what to do where it is not.

Each probe runs in a thread of its own with a time of its own: one that hangs or breaks is a failed check and holds up
nothing else. Nothing is altered; an outside broker's clock is read by a topic that is made and deleted again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.doctor_check import Check
from infra.settings import Settings

PROBE_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What looks at one thing; it may give several checks."""

    name: str
    look: Callable[[Settings], Sequence[Check]]
    timeout_s: float = PROBE_TIMEOUT_S


def probes(flags: Mapping[str, Any]) -> tuple[Probe, ...]:
    """Every probe, in the order of the report. ``flags`` are those of the command line."""
    from infra import doctor_machine as machine
    from infra import doctor_servers as servers

    return (
        Probe("settings", lambda settings: machine.settings(settings, flags)),
        Probe("versions", machine.versions),
        Probe("java", machine.java),
        Probe("jars", machine.jars),
        Probe("disk", machine.disk),
        Probe("ports", machine.ports),
        Probe("stack", machine.stack),
        Probe("broker", servers.broker),
        Probe("topics", servers.topics),
        Probe("schemas", servers.schemas),
        Probe("registry", servers.registry),
        Probe("redis", servers.redis_server),
        Probe("clock", servers.clock),
        Probe("gpu", machine.gpu, 40.0),
    )


def diagnose(settings: Settings, chosen: Sequence[Probe]) -> list[Check]:
    """Run all probes side by side; their checks in the order of ``chosen``."""
    running = [_Running(probe, settings) for probe in chosen]
    return [check for each in running for check in each.checks()]


class _Running:
    """A probe at work; its thread is left behind when it does not end in time."""

    def __init__(self, probe: Probe, settings: Settings) -> None:
        self._probe = probe
        self._settings = settings
        self._found: Sequence[Check] | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"doctor-{probe.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._probe.look(self._settings)
        except Exception as error:  # noqa: BLE001 - a defect of one probe must not hide what the others found
            reason = f"{type(error).__name__}: {error}"
            self._found = [Check(self._probe.name, "fail", f"The check itself failed: {reason}.", "Report it.")]

    def checks(self) -> Sequence[Check]:
        """What was found, waited for until the probe's time is over."""
        self._thread.join(max(0.0, self._began + self._probe.timeout_s - time.monotonic()))
        if self._found is not None:
            return self._found
        late = f"No answer within {self._probe.timeout_s:g} s."
        return [Check(self._probe.name, "fail", late, "Look at what it depends on; the other checks name it.")]
