"""Pages that are made from the code: ``python -m infra.docs`` writes them, ``--check`` says if they are current."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from streams.errors import CODES, Code

ROOT: Final = Path(__file__).resolve().parent.parent
ERRORS_PAGE: Final = ROOT / "docs" / "errors.md"

_HEAD: Final = """# Error codes

Made from `streams/errors.py` by `python -m infra.docs`; do not edit.

Every request ends in exactly one result. When its status is not `OK`, `error.code` is one of these. The list is closed:
a code never changes its meaning, and a new one is an announced change. `retry_after_ms` above 0 says when another try
makes sense.
"""

_STATUSES: Final = {
    "REJECTED": "the request was refused before it was executed; it has to be changed",
    "EXPIRED": "its deadline passed",
    "ERROR": "it could not be read or answered",
}


def errors_page() -> str:
    """Text of ``docs/errors.md``."""
    parts = [_HEAD]
    for status, meaning in _STATUSES.items():
        rows = [_row(code) for code in CODES.values() if code.status == status]
        table = "\n".join(["| Code | Meaning | What to do |", "|---|---|---|", *rows])
        parts.append(f"## {status}: {meaning}\n\n{table}\n")
    return "\n".join(parts)


def _row(code: Code) -> str:
    cells = (f"`{code.name}`", code.meaning, code.remedy)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; returns the exit code."""
    if "--check" in arguments:
        if ERRORS_PAGE.exists() and ERRORS_PAGE.read_text(encoding="utf-8") == errors_page():
            return 0
        print("docs/errors.md is not what streams/errors.py says; run python -m infra.docs", file=sys.stderr)
        return 1
    ERRORS_PAGE.write_text(errors_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
