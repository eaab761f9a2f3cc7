"""What the supervisor noted stands in memory, or it hears why not; what a client raises can be tried again."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError

from infra.supervision import NotedReplicas, Sender
from infra.supervisor import RefusedError
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEntry
from schemas.scaling import Replicas, ScaleConfirmation, ScalingPolicy
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.connection import UnreachableError
from streams.memory_view import MemoryView, Rejection
from tests.support.frames import memory

CODEC = Codec(SchemaIds.local())
CAUSE = RecordCoordinate("control.scale-actions", 0, 7)


class FakeClient:
    """Keeps what is sent, as (topic, key, record)."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self._error = error

    async def send_and_wait(self, topic: str, value: bytes, key: bytes) -> None:
        if self._error is not None:
            raise self._error
        short = topic.removeprefix("isos.").removesuffix(".v1")
        self.sent.append((short, key.decode(), CODEC.decode(short, value)))


class FakeWatch:
    """Memory that answers the newest command: with the noted replicas, or with a rejection."""

    def __init__(self, client: FakeClient, *, refuses: bool = False) -> None:
        self.view = MemoryView()
        self._client = client
        self._refuses = refuses

    async def wait_for(self, condition: Any, timeout_s: float, what: str) -> MemoryView:
        command = self._client.sent[-1][2]
        if self._refuses:
            key = f"rejections/{command.command_id}"
            body = to_json(Rejection(command.command_id, "not_permitted", "no"))
            self.view = MemoryView(1, entries={key: MemoryEntry(key, 1, 1, body, 0)})
        else:
            self.view = MemoryView(1, entries={command.key: MemoryEntry(command.key, 1, 1, command.body, 0)})
        assert condition(self.view), (timeout_s, what)
        return self.view


def noted(*, refuses: bool = False) -> tuple[NotedReplicas, FakeClient]:
    client = FakeClient()
    watch: Any = FakeWatch(client, refuses=refuses)
    return NotedReplicas(watch, Sender(client, CODEC)), client


async def test_it_is_proposed_with_its_reason_and_stands() -> None:
    port, client = noted()
    assert port.noted() is None
    await port.note(Replicas("executors", 2, "executors/5"), "2,000 rows/s", (CAUSE,))
    assert port.noted() == 2
    ((topic, key, command),) = client.sent
    assert (topic, key, command.agent, command.kind) == (
        "memory.commands", "replicas/executors", "supervisor", "NoteReplicas",
    )  # fmt: skip
    assert (command.reason, command.causes, command.expected_version) == ("2,000 rows/s", (CAUSE,), -1)


async def test_a_refusal_is_said() -> None:
    port, _ = noted(refuses=True)
    with pytest.raises(RefusedError, match="no"):
        await port.note(Replicas("executors", 2, "executors/5"), "", ())


def test_a_policy_is_a_value_of_memory() -> None:
    port, _ = noted()
    assert port.policy() is None
    key = "scaling/executors"
    port._memory.view = MemoryView(
        1, entries={**memory().entries, key: MemoryEntry(key, 1, 1, to_json(ScalingPolicy("executors")), 0)}
    )
    assert port.policy() == ScalingPolicy("executors")


async def test_confirmations_go_under_their_pool_and_errors_can_be_tried_again() -> None:
    client = FakeClient()
    confirmation = ScaleConfirmation("a1", "executors", 2, "done", 9)
    await Sender(client, CODEC).confirm(confirmation)
    assert client.sent == [("control.scale-confirmations", "executors", confirmation)]
    with pytest.raises(UnreachableError):
        await Sender(FakeClient(RequestTimedOutError()), CODEC).confirm(confirmation)
