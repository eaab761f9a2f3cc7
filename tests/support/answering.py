"""The answering process of ``infra.bench.answerer`` beside a test: everything between the two public topics."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.bench.answerer import Config
from tests.support.broker import unique


@contextmanager
def answering(
    folder: Path, bootstrap: str, topics: tuple[str, str], schema_id: int, topic_id: bytes = bytes(16)
) -> Iterator[subprocess.Popen[str]]:
    """Answer every request on ``topics`` (requests, results); ends with the context."""
    path = folder / f"{unique('answerer')}.json"
    Config(bootstrap, *topics, topic_id.hex(), schema_id).write(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.bench.answerer", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
