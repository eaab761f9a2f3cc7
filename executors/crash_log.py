"""Which model a process was running when it died of a fatal signal, remembered by the next one.

Before a session runs, its version is written into a slot of a file in memory, which costs a microsecond and outlives
the process. Python's fault handler leaves its report in a second file when the process dies of a segmentation fault, an
abort, a bus or an arithmetic error; a process that was killed leaves none, and nothing is held against its models. A
version that ran in two such deaths within ``FORGET_S``, of whichever executors in the folder, is *suspect*: from then
on it runs in a throw-away process (``executors/isolated.py``). The row that kills goes from one to the next, so what
each would have to learn by its own deaths would cost two of every one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import mmap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # read before anything else by a process that starts in a dead one's place
    from executors.profile import Version
    from executors.session import Session
    from streams.columns import Array

log = logging.getLogger(__name__)

SLOTS: Final = 8
SLOT_BYTES: Final = 256
DEATHS: Final = 2
FORGET_S: Final = 600.0
_FREE: Final = bytes(SLOT_BYTES)


class CrashLog:
    """Files ``<name>.running``, ``.fatal`` and ``.crashes`` of one process; reads what its predecessor left.

    At most ``SLOTS`` batches run at a time; further ones are not noted.
    """

    def __init__(self, folder: Path, name: str, clock_s: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._running, self._fatal, self._crashes = (
            folder / f"{name}.{end}" for end in ("running", "fatal", "crashes")
        )
        self._folder = folder
        self._clock_s = clock_s
        self._deaths: dict[str, list[float]] = {}
        self._note_predecessor()
        self.renew()
        self._running.write_bytes(_FREE * SLOTS)
        with self._running.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._free = list(range(SLOTS))
        self._report = self._fatal.open("w")

    def close(self) -> None:
        """Let go of the files; for whoever is not the process itself."""
        self._report.close()
        self._memory.close()

    def watch(self) -> None:
        """Let the fault handler write to this process's report; for the process whose deaths are to be known."""
        faulthandler.enable(self._report, all_threads=False)

    def is_suspect(self, version: Version) -> bool:
        """Whether a version runs apart."""
        return len(self._deaths.get(" ".join(version), ())) >= DEATHS

    def renew(self) -> None:
        """Read what all processes in the folder know by now; cheap, and meant for when a row may come again."""
        self._deaths = {}
        for path in sorted(self._folder.glob("*.crashes")):
            for label, times in self._read(path).items():
                self._deaths[label] = [*self._deaths.get(label, ()), *times]

    def guarded(self, session: Session) -> GuardedSession:
        """The session, noted here whenever it runs."""
        return GuardedSession(session, self)

    def enter(self, label: bytes) -> int:
        """Note that a batch begins; the slot to leave, or -1."""
        if not self._free:
            return -1
        slot = self._free.pop()
        self._memory[slot * SLOT_BYTES : slot * SLOT_BYTES + len(label)] = label
        return slot

    def leave(self, slot: int) -> None:
        """Note that the batch in a slot has ended."""
        if slot >= 0:
            self._memory[slot * SLOT_BYTES : slot * SLOT_BYTES + 1] = b"\0"
            self._free.append(slot)

    def _note_predecessor(self) -> None:
        if not (self._fatal.is_file() and self._fatal.stat().st_size and self._running.is_file()):
            return
        data, now_s, deaths = self._running.read_bytes(), self._clock_s(), self._read(self._crashes)
        for start in range(0, len(data), SLOT_BYTES):
            label = data[start : start + SLOT_BYTES].partition(b"\n")[0].decode(errors="replace")
            if label and label[0] != "\0":
                deaths[label] = [*deaths.get(label, ()), now_s]
                log.error("the last process died while %s ran (%d times lately)", label, len(deaths[label]))
        partial = self._crashes.with_suffix(".crashes-new")
        partial.write_text(json.dumps(deaths))
        partial.replace(self._crashes)  # whole at any time: the others read it

    def _read(self, path: Path) -> dict[str, list[float]]:
        """Deaths that are not forgotten; what cannot be read is none."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            plain = json.loads(path.read_text())
            since = self._clock_s() - FORGET_S
            return {str(name): [float(at) for at in times if float(at) > since] for name, times in plain.items()}
        return {}


class GuardedSession:
    """A session whose runs stand in the crash log while they last."""

    __slots__ = ("_label", "_log", "_session", "model", "profile", "provider")

    def __init__(self, session: Session, log: CrashLog) -> None:
        self._session = session
        self._log = log
        self._label = f"{session.model.model} {session.model.version}\n".encode()[:SLOT_BYTES]
        self.model, self.profile, self.provider = session.model, session.profile, session.provider

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch."""
        slot = self._log.enter(self._label)
        try:
            return self._session.run(inputs)
        finally:
            self._log.leave(slot)
