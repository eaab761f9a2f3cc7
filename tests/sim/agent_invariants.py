"""What must hold of single control agents, whatever they were told: judged by their journals alone.

A journal is dense and has one writer (``control_invariants``), so what holds of it holds of the agent, whichever
instance was in charge. That an instance which lost its claim decides nothing more is "one writer" of the journal; that
its late effects are only such as the journal has, is "no effect without its journal entry".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agents.monitor import Params as MonitorParams
from schemas.journal import JournalEntry
from schemas.telemetry import Alert, Heartbeat
from tests.sim.control_agents import WHOLE
from tests.sim.scale_rules import ScaleRules
from tests.sim.world import World

ALERTED: Final = "an alert is raised once and resolved once"
LISTENED: Final = "nobody is called silent whom the Monitor could not hear"

SILENT: Final = "process_silent"


class AgentInvariants:
    """``alerts``: whether an alert of the Monitor was resolved, by id."""

    def __init__(self, world: World, violated: Callable[..., None]) -> None:
        self.world = world
        self.violated = violated
        self.alerts: dict[str, bool] = {}
        self.forgeries = 0
        scaler = next(spec for spec in WHOLE if spec.name == "scaler")
        self.scaling = ScaleRules(scaler.params, world.readable, world.count)
        self.monitor: MonitorParams = next(spec.params for spec in WHOLE if spec.name == "monitor")
        self.heard: dict[str, int] = {}
        self.listening_us = 0
        self.monitor_us = 0

    def journaled(self, entry: JournalEntry) -> None:
        """An entry of an agent's journal stands."""
        if entry.kind != "snapshot" and entry.agent == "monitor":
            self.listens(entry)
        if entry.agent == "scaler":
            for rule, what in self.scaling.take(entry):
                self.violated(rule, f"entry {entry.sequence} of the Scaler: {what}", "scale-actions")
        for effect in entry.effects:
            if effect.topic == "control.alerts" and entry.agent == "monitor":
                self.alert(entry, self.world.codec.decode(effect.topic, effect.value))

    def listens(self, entry: JournalEntry) -> None:
        """Follow what the Monitor could know of who lives."""
        if entry.time_us - self.monitor_us > self.monitor.pause_us:
            self.listening_us = entry.time_us
        self.monitor_us = entry.time_us
        if entry.input_topic == "control.heartbeats":
            beat = self.world.readable(entry.input_topic, entry.input_value)
            if isinstance(beat, Heartbeat):
                name = f"{beat.role}-{beat.instance}"
                self.heard[name] = max(min(beat.sent_us, entry.time_us), self.heard.get(name, 0))

    def alert(self, entry: JournalEntry, alert: Alert) -> None:
        where = f"entry {entry.sequence} of the Monitor"
        self.world.count(f"alert {alert.kind}{' resolved' if alert.resolved else ''}")
        resolved = self.alerts.get(alert.alert_id)
        if not alert.resolved and resolved is not None:
            self.violated(ALERTED, f"{where} raises {alert.alert_id} again", alert.alert_id)
        if alert.resolved and resolved is not False:
            how = "was never raised" if resolved is None else "was resolved before"
            self.violated(ALERTED, f"{where} resolves {alert.alert_id}, which {how}", alert.alert_id)
        self.alerts[alert.alert_id] = alert.resolved
        self.forgeries += alert.kind == "forged_memory"
        if alert.kind == SILENT and not alert.resolved:
            silent_us = entry.time_us - max(self.heard.get(alert.subject, 0), self.listening_us)
            if silent_us < self.monitor.silent_us:
                what = f"{where} calls {alert.subject} silent, for which it listened {silent_us} us"
                self.violated(LISTENED, what, alert.subject)
