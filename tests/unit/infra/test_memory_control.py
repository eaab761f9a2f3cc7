"""What the commands that change memory have in common: refusals as sentences with exit codes, and one way to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from infra.signatory import ReviewWaitsError, Signatory
from schemas.environment import OpenReview
from schemas.memory import MemoryEntry
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_view import MemoryView, Rejection
from streams.watch import WatchTimeoutError
from tests.support.frames import MODEL, memory
from tests.support.samples import SAMPLES

VIEW = memory(MODEL)
COMMAND = command_of("SetFlag", "flag/x", "1", "because", VIEW, 5)


def with_value(key: str, body: str) -> MemoryView:
    return replace(VIEW, entries=MappingProxyType({**VIEW.entries, key: MemoryEntry(key, 1, 9, body, 1)}))


STANDS = with_value("flag/x", "1")
REFUSED = with_value(
    f"rejections/{COMMAND.command_id}", to_json(Rejection(COMMAND.command_id, "unknown_version", "No such version."))
)


class Memory:
    """Says one thing after the other, each time it is waited for."""

    def __init__(self, *views: MemoryView) -> None:
        self.view = VIEW
        self.views = list(views)

    async def wait_for(self, stands: Callable[[MemoryView], bool], timeout_s: float, what: str) -> MemoryView:
        while not stands(self.view):
            if not self.views:
                raise WatchTimeoutError(what, timeout_s)
            self.view = self.views.pop(0)
        return self.view


class Sent:
    """A producer that takes everything."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes] = []

    async def send_and_wait(self, topic: str, value: bytes, key: bytes) -> None:
        self.keys.append(key)
        self.values.append(value)


def control(*views: MemoryView) -> tuple[Any, Sent]:
    made: Any = MemoryControl(None)  # type: ignore[arg-type]  # nothing is connected
    made._codec, made._memory, made._producer = Codec(SchemaIds.local()), Memory(*views), Sent()
    return made, made._producer


def propose(made: Any) -> None:
    asyncio.run(made.propose(COMMAND, lambda view: "flag/x" in view.entries, "Try another."))


def test_a_change_is_waited_for_until_it_stands() -> None:
    made, sent = control(VIEW, STANDS)
    propose(made)
    assert sent.keys == [b"flag/x"]
    assert made.view is STANDS


def test_a_refusal_is_a_sentence_and_an_exit_code() -> None:
    made, _ = control(VIEW, REFUSED)
    with pytest.raises(ChangeRefusedError) as refused:
        propose(made)
    assert str(refused.value) == "unknown_version: No such version. Try another."
    assert refused.value.exit_code == 3
    assert ChangeRefusedError("stale_epoch", "The epoch is old", "Try again.").exit_code == 4


def test_where_nobody_answers_it_says_about_what() -> None:
    made, _ = control(VIEW)
    with pytest.raises(WatchTimeoutError, match="The Orchestrator's answer about flag/x"):
        propose(made)


def test_a_model_that_is_not_registered_is_refused_before_anything_is_sent() -> None:
    require_model(VIEW, MODEL.model)
    with pytest.raises(ChangeRefusedError, match="No model nobody is registered. `isos models list`") as refused:
        require_model(VIEW, "nobody")
    assert refused.value.exit_code == 3


WAITS = with_value(
    "review/r9", to_json(OpenReview(replace(SAMPLES["ReviewRequest"], review_id="r9", policy="people"), COMMAND))
)


def test_a_command_that_waits_for_a_person_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = control(WAITS, STANDS)
    propose(made)
    assert "waits for review r9" in capsys.readouterr().err
    made, _ = control(WAITS, REFUSED)
    with pytest.raises(ChangeRefusedError, match="No such version"):
        propose(made)


def test_where_no_person_decides_in_time_the_command_still_stands() -> None:
    made, _ = control(WAITS)
    with pytest.raises(ReviewWaitsError, match="the command need not be repeated") as waiting:
        propose(made)
    assert waiting.value.exit_code == 5
    made, _ = control(WAITS)
    with pytest.raises(ReviewWaitsError) as waiting:
        asyncio.run(made.propose(COMMAND, lambda view: False, "", wait_for_review=False))
    assert waiting.value.exit_code == 0


def test_a_command_says_who_sent_it() -> None:
    made, sent = control(STANDS)
    made._signatory = Signatory("ann", Path("none"))
    propose(made)
    assert made._codec.decode("memory.commands", sent.values[0]) == replace(COMMAND, author="ann")
