"""A partition's take-over under the interpreter: ledger opened, state made, ledger closed whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from streams.agent import AgentSpec
from streams.codec import Codec, SchemaIds
from streams.errors import InvariantError, PoisonRecordError, RetriableError
from streams.interpreter import FrameInterpreter
from tests.support.fake_kafka import FakeApp, FakeEvent, FakeProducer, until
from tests.support.frames import MODEL, frame, memory, row

CODEC = Codec(SchemaIds.local())
TOPIC = "inference.admitted"


class FakeLedger:
    """Counts what is opened and closed; ``failures`` take-overs fail first."""

    failures = 0

    def __init__(self) -> None:
        self.closed = False
        self.results = SimpleNamespace(age_s=0.0)

    async def take_over(self) -> str:
        if FakeLedger.failures:
            FakeLedger.failures -= 1
            raise RetriableError("the broker is away")
        return "rebuilt"

    async def close(self) -> None:
        self.closed = True


def interpreter(app: FakeApp, **given: Any) -> FrameInterpreter:
    seen: list[Any] = given.pop("seen", [])

    def decide(state: Any, event: Any, params: Any) -> tuple[Any, tuple[()]]:
        seen.append((state, event.record))
        return state, ()

    spec = AgentSpec("tester", (TOPIC,), (), lambda params: ("first", params), decide, params=9)
    return FrameInterpreter(
        spec,
        app,  # type: ignore[arg-type]
        FakeProducer(),
        CODEC,
        SimpleNamespace(view=memory(MODEL)),
        on_defect=lambda error: pytest.fail(repr(error)),
        dead_letter=lambda *_: asyncio.sleep(0),
        **given,
    )


async def test_it_registers_one_agent_on_its_topic() -> None:
    app = FakeApp()
    interpreter(app)
    assert (app.topics, app.agents) == (["isos.inference.admitted.v1"], ["isos-tester"])


async def test_events_reach_decide_with_the_initial_state() -> None:
    app, seen, made = FakeApp(), [], frame([row(1)])
    shell = interpreter(app, seen=seen)
    await app.assign(("t", 1))
    event = FakeEvent(CODEC.encode(TOPIC, made), 0)
    await shell.takeover.feed(event)
    await until(lambda: event.acks)
    assert seen == [(("first", 9), made)]
    assert (shell.counts.num_frames, shell.counts.num_rows, shell.counts.num_takeovers) == (1, 1, 1)
    await shell.takeover.stop()


async def test_the_state_comes_from_the_rebuilt_ledger_and_the_ledger_is_closed_at_the_end() -> None:
    app, seen, ledgers = FakeApp(), [], []

    def open_ledger(partition: int) -> Any:
        ledgers.append(FakeLedger())
        return ledgers[-1]

    shell = interpreter(app, seen=seen, ledger_of=open_ledger, initial=lambda partition, rebuilt: (partition, rebuilt))
    await app.assign(("t", 1))
    event = FakeEvent(CODEC.encode(TOPIC, frame([row(1)])), 0)
    await shell.takeover.feed(event)
    await until(lambda: event.acks)
    assert seen[0][0] == (1, "rebuilt")
    await app.assign(("t", 1))
    await until(lambda: len(ledgers) == 2 and ledgers[0].closed)
    await shell.takeover.stop()
    assert [ledger.closed for ledger in ledgers] == [True, True]


async def test_a_failed_take_over_closes_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.takeover.FIRST_BACKOFF_S", 0.0)
    monkeypatch.setattr(FakeLedger, "failures", 1)
    app, ledgers = FakeApp(), []

    def open_ledger(partition: int) -> Any:
        ledgers.append(FakeLedger())
        return ledgers[-1]

    shell = interpreter(app, ledger_of=open_ledger, initial=lambda *_: None)
    await app.assign(("t", 1))
    await asyncio.wait_for(shell.takeover.held["t", 1].ready.wait(), 5)
    assert [ledger.closed for ledger in ledgers] == [True, False]
    await shell.takeover.stop()


async def test_decode_reads_the_consumed_topic_only() -> None:
    shell = interpreter(FakeApp())
    made = frame([row(1)])
    assert await shell.decode(CODEC.encode(TOPIC, made)) == made
    with pytest.raises(PoisonRecordError):
        await shell.decode(None)


async def test_a_frame_that_contradicts_itself_is_poison() -> None:
    """It fits its schema; whoever worked on its columns would end, and its successor too."""
    shell, made = interpreter(FakeApp()), frame([row(1), row(2)])
    with pytest.raises(PoisonRecordError, match="contradicts itself: offsets") as caught:
        await shell.decode(CODEC.encode(TOPIC, replace(made, offsets=made.offsets[:-3])))
    assert caught.value.code == "garbage"


@pytest.mark.parametrize(
    "given",
    [
        {"consumes": (TOPIC, "control.plans")},
        {"watches": ("control.alerts",)},
    ],
)
def test_a_declaration_that_nothing_here_carries_out_is_refused(given: dict[str, Any]) -> None:
    declared = {
        "name": "tester",
        "consumes": (TOPIC,),
        "emits": (),
        "initial": lambda _p: None,
        "decide": print,
        **given,
    }
    with pytest.raises(InvariantError, match="a frame agent"):
        FrameInterpreter(
            AgentSpec(**declared), FakeApp(), FakeProducer(), CODEC, SimpleNamespace(view=None),  # type: ignore[arg-type]
            on_defect=print, dead_letter=print,  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_ledger_has_one_topic() -> None:
    spec = AgentSpec("tester", (TOPIC, "inference.retries"), (), lambda _p: None, print)  # type: ignore[arg-type]
    with pytest.raises(InvariantError, match="a frame agent"):
        FrameInterpreter(
            spec, FakeApp(), FakeProducer(), CODEC, SimpleNamespace(view=None),  # type: ignore[arg-type]
            ledger_of=lambda _partition: FakeLedger(), on_defect=print, dead_letter=print,  # type: ignore[arg-type]
        )  # fmt: skip


async def test_two_topics_feed_one_state_per_partition_and_acknowledge_each_for_itself() -> None:
    app, seen, made = FakeApp(), [], frame([row(1)])
    topics = ("isos.inference.admitted.v1", "isos.inference.retries.v1")

    def decide(state: int, event: Any, params: Any) -> tuple[int, tuple[()]]:
        seen.append((event.coordinate.topic, event.coordinate.partition, state))
        return state + 1, ()

    spec = AgentSpec("tester", (TOPIC, "inference.retries"), (), lambda _p: 0, decide)
    shell = FrameInterpreter(
        spec, app, FakeProducer(), CODEC, SimpleNamespace(view=memory(MODEL)),  # type: ignore[arg-type]
        on_defect=lambda error: pytest.fail(repr(error)), dead_letter=lambda *_: asyncio.sleep(0),
    )  # fmt: skip
    assert app.topics == list(topics)
    await app.assign(*[(topic, partition) for topic in topics for partition in (0, 1)])
    events = []
    for number, (topic, partition) in enumerate([(topics[0], 1), (topics[1], 1), (topics[0], 1), (topics[1], 0)]):
        event = FakeEvent(CODEC.encode(TOPIC, made), number)
        event.message.topic, event.message.partition = topic, partition
        events.append(event)
        await shell.takeover.feed(event)
        await until(lambda: events[-1].acks)
    assert seen == [(topics[0], 1, 0), (topics[1], 1, 1), (topics[0], 1, 2), (topics[1], 0, 0)]
    await app.assign((topics[0], 1), (topics[1], 1))  # a generation later everything begins anew
    event = FakeEvent(CODEC.encode(TOPIC, made), 9)
    event.message.topic, event.message.partition = topics[1], 1
    await shell.takeover.feed(event)
    await until(lambda: event.acks)
    assert seen[-1] == (topics[1], 1, 0)
    await shell.takeover.stop()
