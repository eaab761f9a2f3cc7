"""The load generator as a subprocess of a test: start, wait for flow, stop, collect its record."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.bench.config import Config
from infra.bench.generator import read_columns
from infra.bench.measure import Matched, Sent
from infra.bench.template import Load

__all__ = ["Load", "LoadRun", "Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """What the generator saw: its summary (``infra.bench.measure.Summary`` as a dict) and its columns per request."""

    summary: dict[str, Any]
    sent: Sent
    matched: Matched
    complete: bool


class LoadRun:
    """A running generator. ``with LoadRun(...) as load: ...; record = load.stop()``; leaving the block ends it."""

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        schema_id: int,
        loads: Sequence[Load],
        rate: float,
        *,
        timeout_ms: int = 60_000,
        **settings: Any,
    ) -> None:
        run = uuid.uuid4().hex[:8]
        self._out = folder / f"load-{run}"
        config = Config(
            bootstrap,
            schema_id,
            tuple(loads),
            rate,
            str(self._out),
            run,
            timeout_ms=timeout_ms,
            interactive=True,
            **{"limit_s": 600.0, "drain_s": 60.0, **settings},
        )
        config.write(self._out.with_suffix(".config.json"))
        self._log = self._out.with_suffix(".log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.bench.generator", str(self._out.with_suffix(".config.json"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self._lines.append("ended")
            self._changed.notify_all()

    def _wait(self, what: str, seconds: float) -> None:
        with self._changed:
            seen = self._changed.wait_for(lambda: {what, "ended"} & set(self._lines), seconds)
            if not seen or what not in self._lines:
                raise RuntimeError(f"the generator did not get {what}; log: {self.log()[-500:]}")

    def log(self) -> str:
        """What the generator wrote to stderr."""
        return self._out.with_suffix(".log").read_text(encoding="utf-8")

    @property
    def progress(self) -> str:
        """The generator's newest line."""
        return self._lines[-1] if self._lines else ""

    def go(self) -> None:
        """Wait until results are watched, then start sending."""
        self._wait("ready", 30)
        self._tell("go")

    def wait_for_flow(self, seconds: float = 30.0) -> None:
        """Wait until the broker has acknowledged requests."""

        def flows() -> bool:
            counts = (line.split() for line in self._lines if line.startswith("sent "))
            return any(int(words[3]) > 0 for words in counts) or "ended" in self._lines

        with self._changed:
            if not self._changed.wait_for(flows, seconds) or "ended" in self._lines:
                raise RuntimeError(f"no request was acknowledged; log: {self.log()[-500:]}")

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def stop(self, seconds: float = 180.0) -> Record:
        """Stop sending, wait for the outstanding results and read the record."""
        self._tell("stop")
        return self.wait(seconds)

    def wait(self, seconds: float = 180.0) -> Record:
        """Wait for the end of a run of fixed length and read the record."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"the generator did not end within {seconds:g} s; log: {self.log()[-500:]}") from error
        self._reader.join()
        if code != 0:
            raise RuntimeError(f"the generator ended with {code}; log: {self.log()[-1500:]}")
        sent, matched = read_columns(Path(f"{self._out}.npz"))
        summary = json.loads(Path(f"{self._out}.json").read_text(encoding="utf-8"))
        return Record(summary, sent, matched, "drained" in self._lines)

    def __enter__(self) -> LoadRun:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()
