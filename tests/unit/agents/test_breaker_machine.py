"""The breaker of a version: when it moves, and that every move is asked for once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents import orchestrator
from agents.breaker_machine import BreakerParams, Breakers, Watched, alert_of, hear, learn, moves
from schemas.memory import MemoryCommand
from schemas.serving import Breaker, ServingPolicy
from schemas.telemetry import Alert, ModelWindow, Telemetry
from streams.canonical import from_json, to_json
from streams.memory_view import MemoryHead
from tests.support.control import HERE, SECOND, at, chained, model_version
from tests.unit.agents.test_orchestrator import register

PARAMS = BreakerParams()
NAME, KEY = "digits/v1.0.0", "breaker/digits/v1.0.0"


def window(start_s: float, rows: int, faults: int = 0, stage: str = "executor", instance: int = 0) -> Telemetry:
    part = ModelWindow("digits", "v1.0.0", rows, rows - faults, faults, 0, 0, 0, 0)
    return Telemetry(stage, instance, int(start_s * SECOND), SECOND, 1, 0, (part,))


class Bench:
    """Machine and Orchestrator side by side, with a clock."""

    def __init__(self) -> None:
        self.memory = orchestrator.State()
        self.head = MemoryHead()
        self.state = Breakers()
        self.now_s = 0.0
        self.asked: list[MemoryCommand] = []
        self.alerts: list[Alert] = []
        self.command(register(model_version()))

    def command(self, command: MemoryCommand) -> None:
        self.memory, effects = orchestrator.decide(self.memory, at(command, int(self.now_s * SECOND)), None)
        for stored in chained(effects, self.head):
            before, self.state = self.state, learn(self.state, stored.event, stored.value_hash)
            alert = alert_of(before, self.state, stored.event, HERE)
            self.alerts += [] if alert is None else [alert]
            self.head = MemoryHead(stored.event.sequence, stored.value_hash)

    def hear(self, *windows: Telemetry) -> None:
        for each in windows:
            self.state = hear(self.state, each, int(self.now_s * SECOND), PARAMS)

    def ask(self, *, answered: bool = True) -> list[MemoryCommand]:
        self.state, commands = moves(self.state, int(self.now_s * SECOND), PARAMS)
        self.asked += commands
        for each in commands if answered else ():
            self.command(each)
        return list(commands)

    def second(self, rows: int = 0, faults: int = 0) -> list[str]:
        """One second goes by in which rows were tried; kinds of the moves that were asked for."""
        self.now_s += 1
        if rows:
            self.hear(window(self.now_s - 1, rows, faults))
        return [each.kind for each in self.ask()]

    @property
    def breaker(self) -> Breaker | None:
        standing = self.memory.values.get(KEY)
        return None if standing is None else from_json(Breaker, standing.body)

    @property
    def watched(self) -> Watched:
        return self.state.versions[NAME]


def test_half_of_twenty_rows_open_it() -> None:
    bench = Bench()
    assert bench.second(19, 19) == []
    assert bench.second(1, 0) == ["OpenBreaker"]
    reason = "19 of 20 rows of digits v1.0.0 failed within 10 s"
    assert bench.breaker == Breaker("digits", "v1.0.0", "open", reason, 2 * SECOND, 15 * SECOND)
    assert bench.asked[0] == MemoryCommand(
        f"{KEY}/OpenBreaker/{2 * SECOND}", "monitor", "OpenBreaker", KEY, -1, to_json(bench.breaker), reason, (),
        2 * SECOND,
    )  # fmt: skip


def test_fewer_failures_or_fewer_rows_do_not() -> None:
    bench = Bench()
    for _ in range(30):
        assert bench.second(100, 49) == []
    calm = Bench()
    for _ in range(60):
        assert calm.second(1, 1) == []  # ten in ten seconds


def test_what_the_gate_tells_counts_against_rows_that_ran() -> None:
    bench = Bench()
    bench.hear(window(0, 40), window(0, 20, 20, stage="gate"))
    bench.now_s = 1
    assert [each.kind for each in bench.ask()] == ["OpenBreaker"]
    assert bench.breaker is not None
    assert bench.breaker.reason.startswith("20 of 40 rows")
    early = Bench()
    early.now_s = 1
    early.hear(window(0, 24, 24, stage="gate"))  # the executor's window is not here yet: 24 of how many?
    assert early.ask() == []
    early.hear(window(0, 80))
    assert early.ask() == []
    early.hear(window(0, 30, 30, stage="gate", instance=1))
    assert [each.kind for each in early.ask()] == ["OpenBreaker"]


def test_other_stages_say_nothing_of_versions() -> None:
    bench = Bench()
    bench.hear(window(0, 100, 100, stage="validator"), window(0, 100, 100, stage="router"))
    assert bench.state.versions == {}


def opened() -> Bench:
    bench = Bench()
    bench.second(20, 20)
    assert bench.breaker is not None
    return bench


def half_opened() -> Bench:
    bench = opened()
    kinds = [kind for _ in range(16) for kind in bench.second()]
    assert kinds == ["HalfOpenBreaker"]
    return bench


def test_an_open_one_half_opens_after_its_time() -> None:
    bench = opened()
    assert [bench.second() for _ in range(14)] == [[]] * 14
    assert bench.second() == ["HalfOpenBreaker"]
    reason = "digits v1.0.0 got no rows for 15 s; a few of them go to it to see"
    assert bench.breaker == Breaker("digits", "v1.0.0", "half_open", reason, 16 * SECOND, 15 * SECOND)


def test_five_good_probes_close_it_once_the_gate_had_its_say() -> None:
    bench = half_opened()
    assert bench.second(5) == []
    assert [bench.second() for _ in range(2)] == [[], []]
    assert bench.second() == ["CloseBreaker"]
    assert bench.breaker is None
    assert bench.asked[-1].reason == "5 rows of digits v1.0.0 passed and none failed"
    assert bench.second() == []
    assert NAME not in bench.state.versions


def test_probes_that_are_rare_add_up() -> None:
    bench = half_opened()
    assert [kind for second in range(48) for kind in bench.second(1 if second % 12 == 0 else 0)] == []  # four of them
    assert bench.watched.num_passed == 4
    assert [kind for rows in (1, 0, 0, 0) for kind in bench.second(rows)] == ["CloseBreaker"]


def test_one_bad_probe_opens_it_for_twice_as_long_up_to_five_minutes() -> None:
    bench = half_opened()
    spans = []
    for _ in range(7):
        assert bench.second(3, 1) == ["OpenBreaker"]
        assert bench.breaker is not None
        spans.append(bench.breaker.open_us // SECOND)
        while bench.breaker is not None and bench.breaker.state == "open":
            bench.second()
    assert spans == [30, 60, 120, 240, 300, 300, 300]


def test_one_that_no_row_tries_any_more_closes_after_ten_minutes() -> None:
    bench = half_opened()
    assert [kind for _ in range(598) for kind in bench.second()] == []
    assert bench.second() == ["CloseBreaker"]
    assert bench.asked[-1].reason == "no row tried digits v1.0.0 within 600 s"
    tried = half_opened()
    assert [kind for second in range(900) for kind in tried.second(1 if second == 300 else 0)] == []


def test_rows_of_before_are_no_probes() -> None:
    bench = half_opened()
    bench.hear(window(bench.now_s - 1.5, 50, 50))
    assert bench.ask() == []


def test_a_move_that_is_not_answered_is_asked_again() -> None:
    bench = Bench()
    bench.hear(window(0, 100, 100))
    bench.now_s = 1
    assert len(bench.ask(answered=False)) == 1
    bench.now_s = 5
    assert bench.ask(answered=False) == []
    bench.now_s = 8
    bench.hear(window(7, 100, 100))
    bench.now_s = 11
    assert [each.kind for each in bench.ask()] == ["OpenBreaker"]
    assert bench.breaker is not None
    for each in bench.asked:
        bench.command(each)  # both arrive in the end: the first is late, the second was handled
    assert bench.breaker.state == "open"


def policy(*, breaker: bool) -> MemoryCommand:
    body = to_json(ServingPolicy("digits", breaker=breaker))
    return MemoryCommand(f"p-{breaker}", "cli", "SetServingPolicy", "serving/digits", -1, body, "", (), 5)


def test_a_policy_without_breakers_closes_them_and_keeps_them_closed() -> None:
    bench = opened()
    bench.command(policy(breaker=False))
    assert bench.breaker is None
    assert bench.second(100, 100) == []
    bench.command(policy(breaker=True))
    assert bench.second(100, 100) == ["OpenBreaker"]


def test_one_alert_from_the_opening_to_the_closing() -> None:
    bench = half_opened()
    bench.second(1, 1)
    while bench.breaker is not None:
        bench.second(5)
    raised, resolved = bench.alerts
    assert (raised.alert_id, raised.kind, raised.subject, raised.severity, raised.resolved) == (
        f"breaker_open/{NAME}/{SECOND}", "breaker_open", NAME, "critical", False
    )  # fmt: skip
    assert raised.message == "20 of 20 rows of digits v1.0.0 failed within 10 s."
    assert (resolved.alert_id, resolved.resolved, resolved.causes) == (raised.alert_id, True, (HERE,))


def test_memory_out_of_order_and_bodies_that_are_none_change_nothing() -> None:
    bench = opened()
    (stored,) = chained(orchestrator.decide(bench.memory, at(policy(breaker=False)), None)[1][:1], MemoryHead())
    assert learn(bench.state, stored.event, stored.value_hash) == bench.state


def test_the_state_survives_a_snapshot() -> None:
    bench = half_opened()
    bench.second(3)
    assert from_json(Breakers, to_json(bench.state)) == bench.state


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100), st.sampled_from(("executor", "gate"))), max_size=80))
def test_whatever_is_told_moves_follow_each_other(told: list[Any]) -> None:
    bench = Bench()
    bench.state = hear(bench.state, window(0, 1), 0, PARAMS)
    follows = {None: {"OpenBreaker"}, "open": {"HalfOpenBreaker"}, "half_open": {"OpenBreaker", "CloseBreaker"}}
    for rows, percent, stage in told:
        bench.now_s += 1
        if rows:
            bench.hear(window(bench.now_s - 1, rows, rows * percent // 100, stage))
        before = None if bench.breaker is None else bench.breaker.state
        commands = bench.ask()
        assert len(commands) <= 1
        assert all(each.kind in follows[before] for each in commands)
        assert len(bench.state.versions.get(NAME, Watched()).seen) <= 12
    assert len({each.command_id for each in bench.asked}) == len(bench.asked)
