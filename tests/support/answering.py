"""The answering process of ``infra.bench.answerer`` beside a test: everything between the two public topics."""

from __future__ import annotations

from contextlib import AbstractContextManager
from subprocess import Popen

from infra.bench.answerer import Config
from infra.bench.client_run import answerer


def answering(
    bootstrap: str, topics: tuple[str, str], schema_id: int, topic_id: bytes = bytes(16)
) -> AbstractContextManager[Popen[str]]:
    """Answer every request on ``topics`` (requests, results); ends with the context."""
    return answerer(Config(bootstrap, *topics, topic_id.hex(), schema_id))
