"""The throw-away process that loads a model for the first time: limits first, then the bytes, then a few runs.

Run as ``python -m executors.first_load``: a JSON line of ``Trial`` and then the blob on standard input, one JSON line
of findings on standard output. Constant folding alone can take all memory at load, from a model of 152 bytes, so
nothing but this process may meet an unknown model first.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Trial:
    """What the process may use, and what to run: ``shapes`` per session input (item shape, no -1), batch ``sizes``."""

    parent_pid: int
    max_memory_bytes: int
    max_cpu_s: int
    shapes: dict[str, tuple[int, ...]]
    sizes: tuple[int, ...]

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Trial:
        """Read the line."""
        plain = json.loads(line)
        plain["shapes"] = {name: tuple(shape) for name, shape in plain["shapes"].items()}
        plain["sizes"] = tuple(plain["sizes"])
        return cls(**plain)


def confine(trial: Trial) -> None:
    """Bound memory, processor time, files and core dumps of this process, and end it when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != trial.parent_pid:
        raise SystemExit("the parent is gone")
    resource.setrlimit(resource.RLIMIT_AS, (trial.max_memory_bytes, trial.max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (trial.max_cpu_s, trial.max_cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def examine(blob: bytes, trial: Trial) -> dict[str, Any]:
    """Load and run; the findings: ``inputs``, ``outputs``, ``load_ms``, ``runs``, or ``error``, ``run_error``."""
    # Imported under the limits.
    import numpy as np

    # Before the library itself: it switches telemetry off.
    from executors.runtime import CPU, RUNTIME_ERRORS, sentence_of, session_options  # isort: skip
    import onnxruntime

    from executors.engine import engine_of
    from executors.signature import DATATYPES, blank
    from schemas.model import TensorSpec

    findings: dict[str, Any] = {}
    try:
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(blob, session_options(), providers=[CPU])
        findings["load_ms"] = round((time.perf_counter() - start) * 1000, 3)
        findings["inputs"] = [_describe(argument) for argument in session.get_inputs()]
        findings["outputs"] = [_describe(argument) for argument in session.get_outputs()]
    except RUNTIME_ERRORS as error:
        return {"error": sentence_of(error)}
    findings["runs"] = []
    if not _are_served(findings):  # said by the check of the signature
        return findings
    try:
        engine = engine_of(session, ())
        for size in trial.sizes:
            feed = {
                argument.name: blank(
                    TensorSpec(argument.name, DATATYPES[argument.type], trial.shapes[argument.name]), size
                )
                for argument in session.get_inputs()
                if argument.name in trial.shapes and argument.type in DATATYPES
            }
            made = zip(session.get_outputs(), engine.run(feed, size), strict=True)
            findings["runs"].append({argument.name: list(np.shape(array)) for argument, array in made})
    except RUNTIME_ERRORS as error:
        findings["run_error"] = sentence_of(error)
    return findings


def _are_served(findings: dict[str, Any]) -> bool:
    """Whether every tensor has a datatype and a free batch axis."""
    from executors.signature import signature_of

    try:
        for side in ("inputs", "outputs"):
            signature_of([SimpleNamespace(**entry) for entry in findings[side]])
    except ValueError:
        return False
    return True


def _describe(argument: Any) -> dict[str, Any]:
    return {"name": argument.name, "type": argument.type, "shape": list(argument.shape)}


def main() -> None:
    """Read the trial and the blob, write the findings."""
    trial = Trial.from_line(sys.stdin.buffer.readline())
    confine(trial)
    findings = examine(sys.stdin.buffer.read(), trial)
    sys.stdout.write(json.dumps(findings) + "\n")


if __name__ == "__main__":
    main()
