"""Which model a process was running when it died of a fatal signal, remembered by the next one.

Before a session runs, its version is written into a slot of a file in memory, which costs a microsecond and outlives
the process. Python's fault handler leaves its report in a second file when the process dies of a segmentation fault, an
abort, a bus or an arithmetic error; a process that was killed leaves none, and nothing is held against its models. A
version that ran in the very thread that died is *suspect*, and so is one that ran elsewhere in the process in two such
deaths within ``FORGET_S``, of whichever executors in the folder: from then on it runs in a throw-away process
(``executors/isolated.py``). The row that kills goes from one executor to the next, so what each had to learn by deaths
of its own would cost all of them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import mmap
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import get_ident
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
_THREAD_BYTES: Final = 8
_LABEL_BYTES: Final = SLOT_BYTES - _THREAD_BYTES
_DIED: Final = re.compile(r"^Current thread 0x([0-9a-f]+)", re.MULTILINE)
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
        faulthandler.enable(self._report)  # of all threads: only then it names the one that died

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
        """Note that a batch begins in this thread; ``label``: at most 248 bytes. The slot to leave, or -1."""
        if not self._free:
            return -1
        slot = self._free.pop()
        start, end = slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES
        self._memory[end - _THREAD_BYTES : end] = get_ident().to_bytes(_THREAD_BYTES, "little")
        self._memory[start : start + len(label)] = label  # last: a slot with a label is whole
        return slot

    def leave(self, slot: int) -> None:
        """Note that the batch in a slot has ended."""
        if slot >= 0:
            self._memory[slot * SLOT_BYTES : slot * SLOT_BYTES + 1] = b"\0"
            self._free.append(slot)

    def _note_predecessor(self) -> None:
        if not (self._fatal.is_file() and self._fatal.stat().st_size and self._running.is_file()):
            return
        now_s, deaths = self._clock_s(), self._read(self._crashes)
        for label, is_certain in _blamed(self._running.read_bytes(), self._fatal.read_text(errors="replace")).items():
            deaths[label] = [*deaths.get(label, ()), *([now_s] * (DEATHS if is_certain else 1))]
            log.error("the last process died %s %s", "of" if is_certain else "beside", label)
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


def _blamed(running: bytes, report: str) -> dict[str, bool]:
    """What ran in a process when it died, and whether it ran in the thread that did."""
    died = _DIED.search(report)
    thread = 0 if died is None else int(died[1], 16)
    found: dict[str, bool] = {}
    for start in range(0, len(running), SLOT_BYTES):
        label = running[start : start + _LABEL_BYTES].partition(b"\n")[0].decode(errors="replace")
        if label and label[0] != "\0":
            mine = int.from_bytes(running[start + _LABEL_BYTES : start + SLOT_BYTES], "little")
            found[label] = found.get(label, False) or mine == thread
    return found


class GuardedSession:
    """A session whose runs stand in the crash log while they last."""

    __slots__ = ("_label", "_log", "_session", "model", "profile", "provider", "reentrant")

    def __init__(self, session: Session, log: CrashLog) -> None:
        self._session = session
        self._log = log
        self._label = f"{session.model.model} {session.model.version}\n".encode()[:_LABEL_BYTES]
        self.model, self.profile, self.provider = session.model, session.profile, session.provider
        self.reentrant = session.reentrant

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch."""
        slot = self._log.enter(self._label)
        try:
            return self._session.run(inputs)
        finally:
            self._log.leave(slot)
