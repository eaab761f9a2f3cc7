"""JSON lines of a person's file, one value a line; empty lines count for nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def json_lines(path: Path, wrong: Callable[[str], Exception]) -> Iterator[tuple[int, Any]]:
    """Number, from 1, and value of each line; raises what ``wrong`` makes of the sentence about one that is no JSON.

    Bytes that are no UTF-8 are read as replacement characters. Raises OSError when the file cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise wrong(f"line {number} is not JSON: {error}") from error
            yield number, value
