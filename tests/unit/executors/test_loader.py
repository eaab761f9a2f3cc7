"""What the loader asks for, holds and gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from executors import loader as loader_module
from executors.loader import ModelLoader
from executors.model_store import BlobMissingError
from executors.profile import Profile
from executors.session import ModelSession
from schemas.known_good import GoodVersion, KnownGood
from schemas.memory import MemoryEntry
from schemas.scaling import BatchBound
from streams.canonical import to_json
from streams.memory_view import MemoryView
from tests.support.fake_kafka import until
from tests.support.frames import MODEL, memory, plan

KEY = ("digits", "v1.0.0")
PROFILE = Profile(50.0, 2.0, 128)


class Store:
    """A blob store that has one blob, or none."""

    def __init__(self, *, has: bool = True) -> None:
        self.has = has
        self.asked: list[str] = []

    def get(self, digest: str) -> bytes:
        self.asked.append(digest)
        if not self.has:
            raise BlobMissingError(digest)
        return b"onnx"


@pytest.fixture(autouse=True)
def _session(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(blob: bytes, version: Any, device: str) -> Any:
        assert (blob, device) == (b"onnx", "cpu")
        return SimpleNamespace(model=version, provider="CPUExecutionProvider", profile=PROFILE, fallback=None)

    monkeypatch.setattr(ModelSession, "load", load)


@contextlib.asynccontextmanager
async def running(store: Store, view: list[MemoryView], unknown_s: float = 5.0) -> AsyncIterator[ModelLoader]:
    loader = ModelLoader(store, "cpu", lambda: view[-1], unknown_s=unknown_s)  # type: ignore[arg-type]
    task = asyncio.ensure_future(loader.run())
    try:
        yield loader
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_planned_versions_are_loaded_once() -> None:
    view, store = memory(MODEL, plan("digits", ("v1.0.0", 100))), Store()
    async with running(store, [view]) as loader:
        loader.want_planned(view)
        assert not loader.is_settled
        await until(lambda: loader.is_settled)
        loader.want_planned(view)
        loader.want(*KEY)
        assert loader.is_settled
        assert store.asked == [MODEL.digest]
        assert loader.profiles == {KEY: PROFILE.bounded(0, 128)}
        (held,) = loader.loaded()
        assert (held.model, held.version, held.digest, held.fixed_us, held.per_item_us) == (
            *KEY,
            MODEL.digest,
            50.0,
            2.0,
        )


@pytest.mark.parametrize(
    ("good", "loaded"),
    [(("v1.0.0", "v0.9.0"), ["v1.0.0", "v2.0.0"]), (("v2.0.0", "v1.0.0"), ["v2.0.0"]), ((), ["v2.0.0"])],
    ids=["unproven", "proven", "nothing known"],
)
async def test_what_a_roll_back_would_go_to_is_held_until_the_new_version_proved_itself(
    good: tuple[str, ...], loaded: list[str]
) -> None:
    versions = [replace(MODEL, version=version) for version in ("v0.9.0", "v1.0.0", "v2.0.0")]
    known = KnownGood("digits", tuple(GoodVersion(version, "", 1, 2, 3) for version in good))
    view = memory(*versions, plan("digits", ("v2.0.0", 100)), known)
    async with running(Store(), [view]) as loader:
        loader.want_planned(view)
        await until(lambda: loader.is_settled)
        assert sorted(version for _, version in loader.profiles) == loaded


async def test_a_model_without_a_plan_is_not_loaded() -> None:
    async with running(Store(), [memory(MODEL)]) as loader:
        loader.want_planned(memory(MODEL))
        assert loader.is_settled


async def test_a_load_that_fails_is_told_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(has=False)
    async with running(store, [memory(MODEL)]) as loader:
        loader.want(*KEY)
        await until(lambda: loader.is_settled)
        ((key, reason),) = loader.take_failed()
        assert key == KEY
        assert reason
        loader.want(*KEY)
        assert loader.is_settled  # not again at once
        monkeypatch.setattr(loader_module, "RETRY_S", 0.0)
        assert loader.take_failed() == []
        store.has = True
        loader.want(*KEY)
        await until(lambda: loader.profiles)
        assert loader.take_failed() == []


async def test_rows_may_be_ahead_of_memory() -> None:
    """The Router saw a registration that this process has not folded yet: no row may fail for that."""
    view = [memory()]
    async with running(Store(), view) as loader:
        loader.want(*KEY)
        await until(lambda: not loader._unseen.is_set())
        assert loader.take_failed() == []
        view.append(memory(MODEL))
        await until(lambda: loader.profiles)
        assert loader.take_failed() == []


async def test_a_version_that_nobody_registers_fails_in_the_end() -> None:
    async with running(Store(), [memory()], unknown_s=0.0) as loader:
        loader.want(*KEY)
        await until(lambda: loader.is_settled)
        assert loader.take_failed() == [(KEY, "digits v1.0.0 is not registered")]


class Deaths:
    """A crash log of which the test says what it knows."""

    def __init__(self) -> None:
        self.known: set[Any] = set()
        self.suspects: set[Any] = set()

    def renew(self) -> None:
        self.known = set(self.suspects)

    def is_suspect(self, key: Any) -> bool:
        return key in self.known

    def guarded(self, session: Any) -> Any:
        return session


async def test_what_took_another_executor_down_is_loaded_anew_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Apart:
        provider, profile, fallback = "apart", PROFILE, None

        def __init__(self, _blob: bytes, version: Any, _device: str) -> None:
            self.model = version
            made.append(self)

    monkeypatch.setattr(loader_module, "IsolatedSession", Apart)
    view, deaths = memory(MODEL, plan("digits", ("v1.0.0", 100))), Deaths()
    loader = ModelLoader(Store(), "cpu", lambda: view, crashes=deaths)  # type: ignore[arg-type]
    task = asyncio.ensure_future(loader.run())
    try:
        loader.want(*KEY)
        await until(lambda: loader.is_settled)
        before = loader.sessions[KEY]
        loader.renew()
        assert loader.sessions[KEY] is before
        deaths.suspects.add(KEY)
        loader.renew()
        assert (KEY in loader.sessions, KEY in loader.profiles) == (False, False)  # nothing runs in it meanwhile
        await until(lambda: loader.is_settled)
        loader.renew()
        assert [loader.sessions[KEY]] == made
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_without_a_crash_log_nothing_is_loaded_anew() -> None:
    view = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    async with running(Store(), [view]) as loader:
        loader.want(*KEY)
        await until(lambda: loader.is_settled)
        loader.renew()
        assert KEY in loader.sessions


async def test_batches_are_bounded_by_memory_of_now_and_of_each_change() -> None:
    planned = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    body = to_json(BatchBound("digits", 3))
    entries = {**planned.entries, "vertical/digits": MemoryEntry("vertical/digits", 1, 9, body, 0)}
    view = [replace(planned, entries=MappingProxyType(entries))]
    async with running(Store(), view) as loader:
        loader.want_planned(view[0])
        await until(lambda: loader.is_settled)
        assert loader.profiles[KEY] == PROFILE.bounded(3, 128)
        loader.bound(planned)
        assert loader.profiles[KEY] == PROFILE.bounded(0, 128)
        loader.bound(memory(MODEL, replace(plan("digits", ("v1.0.0", 100)), max_batch_size=5)))
        assert loader.profiles[KEY].cap == 5
        loader.bound(view[0])
        assert loader.profiles[KEY].cap == 3
