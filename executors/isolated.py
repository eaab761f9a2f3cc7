"""A session in a throw-away process, for a version that took its executor down: row by row, the bad ones fail alone.

    python -m executors.isolated     the process: pickles on standard input and output, each behind its length

The parent holds no session of such a model. A row whose process dies or hangs ends with ``execution_failed``; the next
row gets a new process. Both ends are ours and share a pipe, so what is unpickled is what we wrote.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, Final

from executors.profile import Profile
from executors.provider import Device
from executors.session import ExecutionError, LoadError, ModelSession
from schemas.model import ModelVersion
from streams.columns import Array

ANSWER_S: Final = 60.0
_LENGTH: Final = struct.Struct("<Q")
_PR_SET_PDEATHSIG: Final = 1
_CRASHED: Final = "the model crashed its process on this input"


class IsolatedSession:
    """A model version that runs elsewhere. Not safe for threads; batches of one row."""

    reentrant = False

    def __init__(self, blob: bytes, model: ModelVersion, device: Device) -> None:
        self.model = replace(model, max_batch_size=1)
        self._job = (blob, model, device)
        self._child: subprocess.Popen[bytes] | None = None
        self.provider, self.profile = self._start()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one row. Raises ExecutionError, also where the process died of it."""
        if self._child is None:
            self._start()
        try:
            kind, made = self._ask(dict(inputs))
        except (OSError, EOFError):
            self.close()
            raise ExecutionError("execution_failed", _CRASHED) from None
        if kind == "failed":
            code, problem, transient = made
            raise ExecutionError(code, problem, transient=transient)
        outputs: dict[str, Array] = made
        return outputs

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with contextlib.suppress(OSError):  # a row that it did not take
                child.communicate()

    def _start(self) -> tuple[str, Profile]:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "executors.isolated"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            kind, made = self._ask((os.getpid(), *self._job))
        except (OSError, EOFError):
            self.close()
            raise LoadError(self.model.model, self.model.version, "it crashes its process while it loads") from None
        if kind != "loaded":
            self.close()
            raise LoadError(self.model.model, self.model.version, made)
        provider, profile = made
        return provider, profile

    def _ask(self, question: Any) -> Any:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        _write(child.stdin, question)
        if not select.select([child.stdout], [], [], ANSWER_S)[0]:
            raise EOFError
        return _read(child.stdout)


def _write(stream: BinaryIO | Any, message: Any) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: BinaryIO | Any) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    data = stream.read(_LENGTH.unpack(head)[0])
    return pickle.loads(data)  # noqa: S301 - written by the other end of our own pipe


def main() -> None:
    """Load what the parent names, then answer until it closes the pipe."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    parent, blob, model, device = _read(sys.stdin.buffer)
    if os.getppid() != parent:
        return
    try:
        session = ModelSession.load(blob, model, device, warm=False)
    except LoadError as error:
        _write(answers, ("failed", error.problem))
        return
    _write(answers, ("loaded", (session.provider, Profile(5_000.0, 0.0, 1))))
    while True:
        try:
            inputs = _read(sys.stdin.buffer)
        except EOFError:
            return
        try:
            _write(answers, ("ran", session.run(inputs)))
        except ExecutionError as error:
            _write(answers, ("failed", (error.code, error.problem, error.transient)))


if __name__ == "__main__":
    main()
