"""The Monitor: one alert per silence, none for its own pauses, and rates from windows."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agents import orchestrator
from agents.drift import Drifts
from agents.monitor import (
    KEPT_WINDOWS,
    MONITOR,
    Forgery,
    ModelRate,
    Params,
    State,
    decide,
    fold_heartbeat,
    fold_telemetry,
    model_rates,
)
from agents.presence import Evidence, ProcessStatus
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.serving import Breaker, ServingPolicy, Slo
from schemas.telemetry import Alert, Heartbeat, ModelWindow, Telemetry
from streams.agent import Effects, Event, Publish
from streams.canonical import from_json, to_json
from streams.codec import Codec, SchemaIds
from streams.control.journal import TICK_INPUT, Input, JournaledAgent, restore
from streams.memory_view import ActiveVersion, MemoryHead
from tests.support import drift
from tests.support.control import HERE, SECOND, at, chained, model_version, tick
from tests.unit.agents.test_orchestrator import register

PARAMS = Params()
SERVED = ServingPolicy("digits", slo=Slo(0, 0, 1_000))


def heartbeat(sent_us: int, pid: int = 100) -> Heartbeat:
    return Heartbeat("router", 0, pid, 1, sent_us, 7)


def alert(heard_us: int, now_us: int, silent_us: int, message: str, resolved: bool) -> tuple[Publish, ...]:
    record = Alert(
        alert_id=f"process_silent/router-0/{heard_us}",
        kind="process_silent",
        subject="router-0",
        severity="critical",
        message=message,
        evidence=to_json(Evidence(100, heard_us, silent_us, 7)),
        resolved=resolved,
        time_us=now_us,
        causes=(HERE,),
    )
    return (Publish("control.alerts", b"router-0", record),)


def ticks(state: State, first_s: int, last_s: int) -> tuple[State, Effects]:
    effects: Effects = ()
    for second in range(first_s, last_s + 1):
        state, made = decide(state, tick(second * SECOND), PARAMS)
        effects += made
    return state, effects


def test_silence_is_alerted_once_and_resolved() -> None:
    state, _ = decide(State(), at(heartbeat(10 * SECOND), 10 * SECOND), PARAMS)
    assert state.processes["router-0"] == ProcessStatus("router-0", 100, 1, 10 * SECOND, 7, (), 0, HERE)
    state, effects = ticks(state, 11, 30)
    message = "The process sends no heartbeat."
    assert effects == alert(10 * SECOND, 15 * SECOND, 5 * SECOND, message, False)
    state, effects = decide(state, at(heartbeat(31 * SECOND), 31 * SECOND), PARAMS)
    assert effects == (
        replace(
            alert(10 * SECOND, 31 * SECOND, 0, "The process is heard again.", True)[0],
            record=replace(
                alert(10 * SECOND, 31 * SECOND, 0, "The process is heard again.", True)[0].record,
                evidence=to_json(Evidence(100, 31 * SECOND, 0, 7)),
            ),
        ),
    )
    assert state.processes["router-0"].alert_id == ""


def test_our_own_pause_is_nobodys_silence() -> None:
    state, _ = decide(State(), at(heartbeat(10 * SECOND), 10 * SECOND), PARAMS)
    state, effects = ticks(state, 100, 104)
    assert effects == ()
    state, effects = ticks(state, 105, 105)
    assert effects == alert(10 * SECOND, 105 * SECOND, 5 * SECOND, "The process sends no heartbeat.", False)


def test_a_backlog_of_old_heartbeats_is_no_life() -> None:
    state, _ = decide(State(), tick(100 * SECOND), PARAMS)
    state, _ = ticks(state, 101, 107)
    state, _ = decide(state, at(heartbeat(50 * SECOND), 107 * SECOND), PARAMS)
    _, effects = decide(state, tick(107 * SECOND), PARAMS)
    assert [effect.record.resolved for effect in effects] == [False]


def test_a_long_gone_process_is_forgotten() -> None:
    state, _ = decide(State(), at(heartbeat(0), 1), PARAMS)
    state, effects = ticks(state, 1, 601)
    assert state.processes == {}
    assert [effect.record.resolved for effect in effects] == [False, True]


def test_a_new_pid_is_a_restart() -> None:
    state = fold_heartbeat(State(), heartbeat(5), 5, HERE)
    state = fold_heartbeat(state, heartbeat(6, pid=200), 6, HERE)
    assert (state.processes["router-0"].restarts, state.processes["router-0"].pid) == (1, 200)
    assert fold_heartbeat(state, heartbeat(5), 7, HERE) == state


def window(start_s: int, instance: int = 0, rows: int = 10) -> Telemetry:
    part = ModelWindow("digits", "v1.0.0", rows, rows - 1, 1, 0, 0, rows * 100, 300 + start_s)
    return Telemetry("validator", instance, start_s * SECOND, SECOND, 5, 0, (part,))


def test_rates_add_up_over_instances() -> None:
    state = State()
    for record in (window(1), window(2), window(2), window(1, instance=1), window(2, instance=1, rows=30)):
        state, effects = decide(state, at(record), PARAMS)
        assert effects == ()
    assert len(state.windows["validator-0"]) == 2
    assert model_rates(state, 3 * SECOND) == (ModelRate("validator", "digits", "v1.0.0", 30.0, 28.0, 2.0, 100.0, 302),)
    assert model_rates(state, 100 * SECOND) == ()


def test_only_the_newest_windows_are_kept() -> None:
    state = State()
    for start in range(20):
        state = fold_telemetry(state, window(start))
    assert [w.window_start_us // SECOND for w in state.windows["validator-0"]] == list(range(20 - KEPT_WINDOWS, 20))


@given(st.lists(st.integers(0, 40) | st.none(), max_size=60))
def test_alerts_alternate(inputs: list[int | None]) -> None:
    """Heartbeats of any age between ticks: raised and resolved take turns, each pair under one id."""
    state, alerts = State(), []
    for second, sent in enumerate(inputs):
        event = tick(second * SECOND) if sent is None else at(heartbeat(sent * SECOND), second * SECOND)
        state, effects = decide(state, event, PARAMS)
        alerts.extend(effect.record for effect in effects if effect.record.kind == "process_silent")
    assert [a.resolved for a in alerts] == [n % 2 == 1 for n in range(len(alerts))]
    assert all(a.alert_id == b.alert_id for a, b in zip(alerts[::2], alerts[1::2], strict=False))


def forged(start_s: int, num_values: int) -> Telemetry:
    return Telemetry("router", 0, start_s * SECOND, SECOND, 0, 0, (), (), num_values)


def forgery(num_values: int, last_s: int, now_s: int, message: str, *, resolved: bool) -> Publish:
    alert_id = f"cache_forged/router-0/{10 * SECOND}"
    evidence = to_json(Forgery(alert_id, num_values, last_s * SECOND, HERE))
    record = Alert(
        alert_id, "cache_forged", "router-0", "critical", message, evidence, resolved, now_s * SECOND, (HERE,)
    )
    return Publish("control.alerts", b"router-0", record)


def test_forged_answers_in_the_cache_are_alerted_once_and_resolved_when_they_end() -> None:
    met = "Redis holds cached answers that this stack did not write; they are not used."
    state, effects = decide(State(), at(forged(10, 2), 11 * SECOND), PARAMS)
    assert effects == (forgery(2, 11, 11, met, resolved=False),)
    for second, number in ((11, 0), (12, 3)):
        state, effects = decide(state, at(forged(second, number), (second + 1) * SECOND), PARAMS)
        assert effects == ()
    state, effects = ticks(state, 14, 100)
    gone = "No more cached answers of others were met."
    assert effects == (forgery(5, 13, 73, gone, resolved=True),)
    assert state.forgeries == {}


def failing(start_s: int) -> Telemetry:
    part = ModelWindow("digits", "v1.0.0", 40, 10, 30, 0, 0, 0, 0)
    return Telemetry("executor", 0, start_s * SECOND, SECOND, 0, 0, (part,))


def test_a_version_that_fails_its_rows_has_its_breaker_opened_and_alerted() -> None:
    state, effects = decide(State(), at(failing(9), 10 * SECOND), PARAMS)
    (asked,) = effects
    assert (asked.topic, asked.key, asked.record.kind) == ("memory.commands", b"breaker/digits/v1.0.0", "OpenBreaker")
    _, registered = orchestrator.decide(orchestrator.State(), at(register(model_version())), None)
    memory, _ = orchestrator.decide(orchestrator.State(), at(register(model_version())), None)
    memory, opened = orchestrator.decide(memory, at(asked.record, 10 * SECOND), None)
    alerts: Effects = ()
    for stored in chained((*registered, *opened)):
        state, made = decide(state, at(stored.event, 11 * SECOND, answers=stored.value_hash), PARAMS)
        alerts += made
    (raised,) = alerts
    assert (raised.topic, raised.record.kind, raised.record.resolved) == ("control.alerts", "breaker_open", False)
    assert decide(state, tick(12 * SECOND), PARAMS)[1] == ()
    _, later = decide(state, tick(26 * SECOND), PARAMS)
    assert [effect.record.kind for effect in later] == ["HalfOpenBreaker"]


def test_the_state_of_an_older_release_is_read() -> None:
    assert from_json(State, '{"processes":{},"windows":{},"listening_us":1,"last_us":2}') == State({}, {}, 1, 2)


def answered(start_s: int, late: int) -> Telemetry:
    part = ModelWindow("digits", "v1.0.0", late, late, 0, 0, 0, 0, 0, (0, late))
    return Telemetry("validator", 0, start_s * SECOND, SECOND, 1, 0, (part,))


def promised(latency_ms: int, version: int = 1) -> MemoryEvent:
    body = to_json(ServingPolicy("digits", slo=Slo(latency_ms, 10_000)))
    return MemoryEvent(version, bytes(32), "c", "cli", "ServingPolicySet", "serving/digits", version, body, "", (), 1)


def test_a_model_that_breaks_its_slo_is_alerted_and_another_slo_resolves_it() -> None:
    state, _ = decide(State(), at(promised(1), SECOND, answers=b"1"), PARAMS)
    state, effects = decide(state, at(answered(9, 100), 10 * SECOND), PARAMS)
    assert effects == ()
    assert from_json(State, to_json(state)) == state
    state, effects = ticks(state, 10, 20)
    (raised,) = effects
    assert (raised.topic, raised.key, raised.record.kind, raised.record.resolved) == (
        *("control.alerts", b"digits", "slo_burn", False),
    )
    stale = replace(promised(1_000, 2), prev_hash=b"2" * 32)
    void, _ = decide(state, at(stale, 21 * SECOND, answers=b"x"), PARAMS)
    assert void.slos is state.slos
    state, (resolved,) = decide(state, at(replace(stale, prev_hash=b"1"), 21 * SECOND, answers=b"2"), PARAMS)
    assert (resolved.record.alert_id, resolved.record.resolved) == (raised.record.alert_id, True)
    assert state.slos["digits"].slo == Slo(1_000, 10_000)


def test_after_a_restart_the_journal_gives_the_same_slo_windows_and_alerts() -> None:
    codec = Codec(SchemaIds.local())
    agent, entries = JournaledAgent(MONITOR, codec), []

    def step(topic: str, offset: int, record: object, second: int) -> None:
        entry = agent.step(Input(topic, 0, offset, b"", codec.encode(topic, record)), second * SECOND)
        assert entry is not None
        entries.append(entry)
        ticked = agent.step(TICK_INPUT, second * SECOND)
        entries.extend([] if ticked is None else [ticked])

    step("memory.events", 0, promised(250), 1)
    for second in range(2, 60):
        slow = answered(second - 1, 100)
        late = (*[0] * 30, 100)
        part = replace(slow.models[0], latency_counts=late if second > 40 else (100,))
        step("control.telemetry", second, replace(slow, models=(part,)), second)
        if second == 45:
            entries.append(agent.snapshot())
    raised = [
        codec.decode("control.alerts", effect.value)
        for entry in entries
        for effect in entry.effects
        if effect.topic == "control.alerts"
    ]
    assert [each.alert_id.rsplit("/", 1)[0] for each in raised] == [
        "slo_burn/digits/latency/slow",
        "slo_burn/digits/latency/fast",
    ]
    restored, divergences = restore(MONITOR, codec, entries)
    assert (divergences, restored.state) == ((), agent.state)
    again = JournaledAgent(MONITOR, codec)
    assert again.fold(entries) == ()
    assert set(restored.state.slos["digits"].raised) == {"latency/slow", "latency/fast"}


def served(second: int, version: str = "v1.0.0", bad: int = 0) -> Telemetry:
    part = ModelWindow("digits", version, 100, 100 - bad, bad, 0, 0, 0, 0)
    return Telemetry("validator", 0, (second - 1) * SECOND, SECOND, 1, 0, (part,))


def test_a_version_that_served_well_is_asked_to_be_known_as_good_unless_its_breaker_is_open() -> None:
    _, registered = orchestrator.decide(orchestrator.State(), at(register(model_version())), None)
    for breaker, number in (("", 1), ("v9.0.0", 1), ("v1.0.0", 0)):
        state = State()
        for stored in chained(registered):
            state, _ = decide(state, at(stored.event, SECOND, answers=stored.value_hash), PARAMS)
        if breaker:
            body = Breaker("digits", breaker, "open", "why", 2 * SECOND, 600 * SECOND)
            opened = MemoryEvent(
                3, b"", "c", "monitor", "BreakerOpened", f"breaker/digits/{breaker}", 1, to_json(body), "", (), 2
            )
            opened = replace(opened, prev_hash=state.breakers.head.last_hash)
            state, _ = decide(state, at(opened, 2 * SECOND, answers=b"3"), PARAMS)
        commands: list[str] = []
        for second in range(3, 80):
            state, _ = decide(state, at(served(second), second * SECOND), PARAMS)
            state, effects = decide(state, tick(second * SECOND), PARAMS)
            commands += [each.record.kind for each in effects if each.topic == "memory.commands"]
        assert commands.count("MarkVersionGood") >= number
        assert ("MarkVersionGood" in commands) == bool(number)
        assert from_json(State, to_json(state)) == state


def test_a_new_bad_version_is_blamed_and_gives_way_to_the_good_one() -> None:
    """Monitor and Orchestrator side by side: what one asks for the other does, and the model ends where it began."""
    memory, state, head = orchestrator.State(), State(), MemoryHead()
    kinds: list[str] = []

    def tell(record: object, second: int) -> None:
        nonlocal memory, state, head
        memory, effects = orchestrator.decide(memory, at(record, second * SECOND), None)
        for stored in chained(effects, head):
            head = MemoryHead(stored.event.sequence, stored.value_hash)
            kinds.append(stored.event.kind)
            hear(at(stored.event, second * SECOND, answers=stored.value_hash), second)

    def hear(event: Event, second: int) -> None:
        nonlocal state
        state, effects = decide(state, event, PARAMS)
        for effect in effects:
            tell(effect.record, second)

    tell(register(model_version()), 1)
    tell(register(model_version(version="v2.0.0", digest="cd" * 32), "r2"), 1)
    tell(MemoryCommand("s", "cli", "SetServingPolicy", "serving/digits", 0, to_json(SERVED), "", (), 1), 1)
    for second in range(2, 70):
        hear(at(served(second), second * SECOND), second)
        hear(tick(second * SECOND), second)
    assert kinds.count("VersionMarkedGood") == 1
    active = to_json(ActiveVersion("digits", "v2.0.0"))
    tell(MemoryCommand("a", "cli", "ActivateVersion", "active/digits", -1, active, "", (), 1), 70)
    kinds.clear()
    hear(at(served(71, "v2.0.0", 30), 71 * SECOND), 71)
    hear(tick(71 * SECOND), 71)
    assert kinds == ["IncidentRaised", "VersionRolledBack", "RollbackStarted", "IncidentRaised"]
    kinds.clear()
    for second in range(72, 140):
        hear(at(served(second), second * SECOND), second)
        hear(tick(second * SECOND), second)
    assert kinds == ["IncidentResolved", "VersionMarkedGood", "RollbackVerified", "IncidentResolved"]


def test_rows_of_a_version_with_a_reference_are_judged_and_the_state_comes_back() -> None:
    reference = drift.reference()
    state, _ = decide(State(), tick(SECOND), PARAMS)
    body = to_json(reference)
    change = MemoryEvent(1, bytes(32), "c", "cli", "ReferenceSet", "reference/digits/v1.0.0", 1, body, "", (), 1)
    forged = replace(change, prev_hash=b"x" * 32)
    assert decide(state, at(forged, 2 * SECOND, answers=b"f" * 32), PARAMS)[0].drifts == Drifts()
    state, effects = decide(state, at(change, 2 * SECOND, answers=b"h" * 32), PARAMS)
    assert effects == ()
    assert list(state.drifts.versions) == ["digits/v1.0.0"]
    told = drift.told(reference, drift.rows(400, 1, shift=2.0), 30 * SECOND)
    state, effects = decide(state, at(told, 30 * SECOND), PARAMS)
    assert [(effect.topic, effect.record.kind) for effect in effects] == [
        ("control.alerts", "drift"), ("control.alerts", "data_quality"),
    ]  # fmt: skip
    assert from_json(State, to_json(state)) == state
    state, effects = decide(state, tick(700 * SECOND), PARAMS)
    assert [(effect.record.kind, effect.record.resolved) for effect in effects] == [
        ("drift", True), ("data_quality", True),
    ]  # fmt: skip


def test_a_clock_that_is_ahead_is_alerted() -> None:
    state, kinds = State(), []
    for second in range(10, 20):
        state, _ = decide(state, at(heartbeat((second + 5) * SECOND), second * SECOND), PARAMS)
        state, effects = decide(state, tick(second * SECOND), PARAMS)
        kinds += [effect.record.kind for effect in effects]
    assert kinds == ["clock_skew"]
    assert from_json(State, to_json(state)) == state
