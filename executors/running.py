"""Which versions have batches under way, and which rows may run beside them; pure.

A version runs one batch at a time, because two would only share the processor. But nothing interrupts a session: rows
more urgent than a long batch that has begun would wait for all of it. Where the session allows it they run beside it,
one batch at a time, and the operating system shares the processor out.
"""

from __future__ import annotations

from collections.abc import Iterator

from executors.profile import Version
from executors.run import Run


class Running:
    """The versions of one executor with batches under way."""

    __slots__ = ("_num_runs", "_passable")

    def __init__(self) -> None:
        self._num_runs: dict[Version, int] = {}
        self._passable: dict[Version, Run] = {}

    def __bool__(self) -> bool:
        """Whether anything is under way."""
        return bool(self._num_runs)

    def __contains__(self, version: Version) -> bool:
        """Whether a batch of a version is under way."""
        return version in self._num_runs

    def __iter__(self) -> Iterator[Version]:
        """The versions with batches under way."""
        return iter(self._num_runs)

    def begin(self, run: Run) -> None:
        """A batch is under way from now on."""
        self._num_runs[run.version] = self._num_runs.get(run.version, 0) + 1

    def end(self, run: Run) -> None:
        """A batch is under way no more."""
        left = self._num_runs[run.version] - 1
        if left:
            self._num_runs[run.version] = left
        else:
            del self._num_runs[run.version]
        if self._passable and self._passable.get(run.version) is run:
            del self._passable[run.version]

    def let_pass(self, run: Run) -> None:
        """A batch under way is long: more urgent rows may run beside it, where its session allows it."""
        if run.session.reentrant:
            self._passable.setdefault(run.version, run)

    def below(self, version: Version) -> int:
        """Rows of a version below this priority may run now, beside what is under way; 0: none."""
        run = self._passable.get(version)
        return 0 if run is None or self._num_runs[version] > 1 else run.priority
