"""A running local stack for the length of a block: the one that runs already, or one that is started and stopped."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.commands.down import stop_stack
from infra.commands.up import up_detached
from infra.settings import Settings
from infra.stack_state import is_running


@contextlib.contextmanager
def running_stack(settings: Settings, *, keep: bool = False) -> Iterator[float | None]:
    """Give the seconds that the start took, None for a stack that ran already; stop what was started unless ``keep``.

    Raises StartError when it cannot start.
    """
    if is_running(settings):
        yield None
        return
    begun = time.monotonic()
    up_detached(settings)
    try:
        yield time.monotonic() - begun
    finally:
        if not keep:
            stop_stack(settings)


def write_result(name: str, document: dict[str, Any], folder: Path = Path("results")) -> Path:
    """Write one JSON document under ``results/`` and give its path; it appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return draft.replace(path)
