"""Starts and stops the executors of a pool: what a supervisor asks for, and what really runs.

``Launcher`` is all that the supervisor (``infra/supervisor.py``) knows of where processes run. The local one writes the
wanted number to ``run/desired.json``, which the stack follows (``infra/executor_pool.py``), and reads what became of it
from ``run/stack.json``. A Kubernetes one would set the replicas of a Deployment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from infra.pools import Pool, executor_names, pool_named
from infra.settings import Settings
from infra.stack_state import is_running, read_state
from streams.errors import RetriableError
from streams.lane_class import POOL


class LauncherAwayError(RetriableError):
    """Nobody here starts processes, or nobody yet (``soon``); ``reason`` is a sentence without a full stop."""

    def __init__(self, reason: str, *, soon: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.soon = soon

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class PoolState:
    """What runs of a pool: how many were asked for last, how many there may be, names that run and that serve.

    ``first``: its first instance.
    """

    wanted: int
    most: int
    running: tuple[str, ...]
    ready: tuple[str, ...]
    first: int = 0

    @property
    def num_ready(self) -> int:
        """How many of the wanted ones serve."""
        return sum(name in self.ready for name in executor_names(self.wanted, self.first))


class Launcher(Protocol):
    """Where the executors of one pool run."""

    def state(self) -> PoolState:
        """What runs now. Raises LauncherAwayError."""

    def set(self, replicas: int) -> None:
        """Ask for so many; ``state`` tells when they are there, or gone. Raises LauncherAwayError."""


class LocalLauncher:
    """A pool's executors of the stack in the same data directory."""

    def __init__(self, settings: Settings, pool: str = POOL) -> None:
        self._settings = settings
        self._pool = pool_named(settings, pool)

    def state(self) -> PoolState:
        """As the stack wrote it down last."""
        if not is_running(self._settings):
            raise LauncherAwayError("no stack runs in this data directory, and nobody else starts executors")
        found = pool_state(read_state(self._settings), self._pool)
        if found is None:
            raise LauncherAwayError("the stack is still starting, or is of a release that does not scale", soon=True)
        return found

    def set(self, replicas: int) -> None:
        """The stack looks several times a second."""
        path = self._settings.run_dir / "desired.json"
        draft = path.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps({**_wishes(self._settings), self._pool.name: replicas}))
            draft.replace(path)
        except OSError as error:
            raise LauncherAwayError(f"{path} cannot be written ({error.strerror})") from error

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Be the only one who scales this stack, if nobody else is; the kernel frees it when the holder dies."""
        self._settings.run_dir.mkdir(parents=True, exist_ok=True)
        with (self._settings.run_dir / "scaling.lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def asked_for(settings: Settings, pool: str = POOL) -> int | None:
    """How many executors of a pool its supervisor wants, or None where it did not say since the stack's start."""
    count = _wishes(settings).get(pool)
    return count if isinstance(count, int) else None


def _wishes(settings: Settings) -> dict[str, Any]:
    """What supervisors want, by pool."""
    try:
        wishes = json.loads((settings.run_dir / "desired.json").read_text())
    except (OSError, ValueError):
        return {}
    return wishes if isinstance(wishes, dict) else {}


def forget_asked(settings: Settings) -> None:
    """Begin with the number of the settings: what was wanted before is in memory, and the supervisor knows it."""
    (settings.run_dir / "desired.json").unlink(missing_ok=True)


def pool_state(state: dict[str, Any], pool: Pool) -> PoolState | None:
    """The pool's part of ``run/stack.json``; None while the stack starts."""
    found = state.get("pools", {}).get(pool.name)
    if found is None or not state.get("ready"):
        return None
    mine = set(pool.names(found["most"]))
    rows = [row for row in state.get("processes", []) if row["name"] in mine]
    return PoolState(
        found["wanted"],
        found["most"],
        tuple(row["name"] for row in rows),
        tuple(row["name"] for row in rows if row["phase"] == "ready"),
        pool.first,
    )
