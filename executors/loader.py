"""Which model versions this executor holds: follows memory, loads in the background, tells what failed.

Wanted is every version that a plan names and every version for which rows wait. Loading runs in a thread, one at a time,
from the content-addressed store; the batcher serves a version as soon as its profile is here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from executors.batcher import Profile
from executors.model_store import BlobCorruptError, BlobMissingError, ModelStore
from executors.session import Device, LoadError, ModelSession
from schemas.telemetry import LoadedModel
from streams.memory_view import MemoryView, model_version, models, plan

log = logging.getLogger(__name__)

RETRY_S: Final = 10.0
Version = tuple[str, str]


class ModelLoader:
    """Sessions and profiles by (model, version)."""

    def __init__(self, store: ModelStore, device: Device, memory: Callable[[], MemoryView]) -> None:
        self._store = store
        self._device = device
        self._memory = memory
        self._wanted: dict[Version, None] = {}
        self._failed: dict[Version, tuple[str, float]] = {}
        self._unseen = asyncio.Event()
        self.sessions: dict[Version, ModelSession] = {}
        self.profiles: dict[Version, Profile] = {}

    def want(self, model: str, version: str) -> None:
        """Ask for a version; cheap when it is here."""
        key = (model, version)
        if key not in self.profiles and key not in self._wanted:
            self._wanted[key] = None
            self._unseen.set()

    def want_planned(self, memory: MemoryView) -> None:
        """Ask for every version that an effective plan names."""
        for name in models(memory):
            effective = plan(memory, name)
            for share in () if effective is None else effective.versions:
                self.want(name, share.version)

    def take_failed(self) -> list[tuple[Version, str]]:
        """Versions whose load failed within the last seconds, with the reason; rows for them cannot be served now."""
        if not self._failed:
            return []
        now = time.monotonic()
        self._failed = {key: failed for key, failed in self._failed.items() if now - failed[1] < RETRY_S}
        return [(key, reason) for key, (reason, _) in self._failed.items()]

    @property
    def is_settled(self) -> bool:
        """Whether everything asked for is loaded or has failed."""
        return not any(key not in self.profiles and key not in self._failed for key in self._wanted)

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is held, for the heartbeat."""
        return tuple(
            LoadedModel(model, version, session.model.digest, session.provider, session.profile.fixed_us, session.profile.per_item_us)
            for (model, version), session in sorted(self.sessions.items())
        )  # fmt: skip

    async def run(self) -> None:
        """Load what is asked for, one after the other, until cancelled."""
        while True:
            await self._unseen.wait()
            self._unseen.clear()
            for key in list(self._wanted):
                if key not in self._failed:
                    await self._load(key)
                    self._wanted.pop(key, None)

    async def _load(self, key: Version) -> None:
        version = model_version(self._memory(), *key)
        if version is None:
            self._fail(key, f"{key[0]} {key[1]} is not registered")
            return
        started = time.perf_counter()
        try:
            blob = await asyncio.to_thread(self._store.get, version.digest)
            session = await asyncio.to_thread(ModelSession.load, blob, version, self._device)
        except (BlobMissingError, BlobCorruptError, LoadError) as error:
            self._fail(key, str(error))
            return
        if session.fallback is not None:
            log.warning("%s %s: %s", *key, session.fallback.sentence)
        log.info("loaded %s %s on %s in %.0f ms", *key, session.provider, (time.perf_counter() - started) * 1e3)
        self.sessions[key] = session
        self.profiles[key] = session.profile
        self._failed.pop(key, None)

    def _fail(self, key: Version, reason: str) -> None:
        log.error("%s", reason)
        self._failed[key] = (reason, time.monotonic())
