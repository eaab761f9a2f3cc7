"""Which model versions this executor holds: follows memory, loads in the background, tells what failed.

Wanted is every version that a plan names and every version for which rows wait. Loading runs in a thread, one at a
time, from the content-addressed store; the batcher serves a version as soon as its profile is here. A row may be here
before the memory event that registers its version (the Router reads memory by itself), so an unknown version is waited
for a while before it counts as failed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from executors.crash_log import CrashLog
from executors.isolated import IsolatedSession
from executors.model_store import BlobCorruptError, BlobMissingError, ModelStore
from executors.profile import Profile
from executors.provider import Device
from executors.session import LoadError, ModelSession, Session
from executors.stand_by import stand_by
from schemas.model import ModelVersion
from schemas.telemetry import LoadedModel
from streams.blobs.content_store import StoreUnreadableError
from streams.memory_view import MemoryView, batch_bound, model_version, models, plan

log = logging.getLogger(__name__)

RETRY_S: Final = 10.0
UNKNOWN_S: Final = 5.0
POLL_S: Final = 0.02
Version = tuple[str, str]


class ModelLoader:
    """Sessions and profiles by (model, version)."""

    def __init__(
        self,
        store: ModelStore,
        device: Device,
        memory: Callable[[], MemoryView],
        *,
        unknown_s: float = UNKNOWN_S,
        crashes: CrashLog | None = None,
    ) -> None:
        self._store = store
        self._device = device
        self._memory = memory
        self._unknown_s = unknown_s
        self._crashes = crashes
        self._wanted: dict[Version, None] = {}
        self._failed: dict[Version, tuple[str, float]] = {}
        self._unseen = asyncio.Event()
        self.sessions: dict[Version, Session] = {}
        self.profiles: dict[Version, Profile] = {}

    def want(self, model: str, version: str) -> None:
        """Ask for a version; cheap when it is here."""
        key = (model, version)
        if key not in self.profiles and key not in self._wanted and key not in self._failed:
            self._wanted[key] = None
            self._unseen.set()

    def want_planned(self, memory: MemoryView) -> None:
        """Ask for every version that an effective plan names, and for those that it may name next."""
        for name in models(memory):
            effective = plan(memory, name)
            if effective is not None:
                serving = [share.version for share in effective.versions]
                for version in (*serving, *effective.fallbacks, *stand_by(memory, name, serving)):
                    self.want(name, version)
                if effective.shadow is not None:
                    self.want(name, effective.shadow.version)

    def bound(self, memory: MemoryView) -> None:
        """Make batches as large as memory says, where it does."""
        for key, profile in list(self.profiles.items()):
            self.profiles[key] = _bounded(profile, memory, key[0])

    def take_failed(self) -> list[tuple[Version, str]]:
        """Versions whose load failed within the last seconds, with the reason; rows for them cannot be served now."""
        if not self._failed:
            return []
        now = time.monotonic()
        self._failed = {key: failed for key, failed in self._failed.items() if now - failed[1] < RETRY_S}
        return [(key, reason) for key, (reason, _) in self._failed.items()]

    def renew(self) -> None:
        """Load anew, apart, what took down another executor by now: its row may be among those that come again."""
        if self._crashes is None:
            return
        self._crashes.renew()
        for key, session in list(self.sessions.items()):
            if self._crashes.is_suspect(key) and not isinstance(session, IsolatedSession):
                del self.sessions[key], self.profiles[key]
                self.want(*key)

    @property
    def is_settled(self) -> bool:
        """Whether everything asked for is loaded or has failed."""
        return not self._wanted

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is held, for the heartbeat."""
        return tuple(_held(*key, session, self.profiles[key]) for key, session in sorted(self.sessions.items()))

    async def run(self) -> None:
        """Load what is asked for, one after the other, until cancelled."""
        while True:
            await self._unseen.wait()
            self._unseen.clear()
            for key in list(self._wanted):
                await self._load(key)
                self._wanted.pop(key, None)

    async def _load(self, key: Version) -> None:
        version = await self._registered(key)
        if version is None:
            self._fail(key, f"{key[0]} {key[1]} is not registered")
            return
        started = time.perf_counter()
        try:
            blob = await asyncio.to_thread(self._store.get, version.digest)
            session = await asyncio.to_thread(self._session, key, blob, version)
        except (BlobMissingError, BlobCorruptError, StoreUnreadableError, LoadError) as error:
            self._fail(key, str(error))
            return
        log.info("loaded %s %s on %s in %.0f ms", *key, session.provider, (time.perf_counter() - started) * 1e3)
        self.sessions[key] = session
        self.profiles[key] = _bounded(session.profile, self._memory(), key[0])
        self._failed.pop(key, None)

    def _session(self, key: Version, blob: bytes, version: ModelVersion) -> Session:
        """The version's session: in a process of its own where it took this one down before."""
        if self._crashes is not None and self._crashes.is_suspect(key):
            log.error("%s %s crashed its executor before: its rows run one by one in another process", *key)
            return IsolatedSession(blob, version, self._device)
        session = ModelSession.load(blob, version, self._device)
        if session.fallback is not None:
            log.warning("%s %s: %s", *key, session.fallback.sentence)
        return session if self._crashes is None else self._crashes.guarded(session)

    async def _registered(self, key: Version) -> ModelVersion | None:
        """The version as memory has it; one that is not there yet may be on its way."""
        until = time.monotonic() + self._unknown_s
        while (version := model_version(self._memory(), *key)) is None and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        return version

    def _fail(self, key: Version, reason: str) -> None:
        log.error("%s", reason)
        self._failed[key] = (reason, time.monotonic())


def _bounded(profile: Profile, memory: MemoryView, model: str) -> Profile:
    """The profile with the batches that memory and the model's plan allow."""
    effective = plan(memory, model)
    return profile.bounded(batch_bound(memory, model), 0 if effective is None else effective.max_batch_size)


def _held(model: str, version: str, session: Session, profile: Profile) -> LoadedModel:
    return LoadedModel(model, version, session.model.digest, session.provider, profile.fixed_us, profile.per_item_us)
