"""The command ``isos`` as it is installed: where only the client is, one sentence says what is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

NEEDED: Final = ("typer", "pydantic_settings", "rich", "confluent_kafka")
"""What every noun imports before it can say anything by itself."""

ADVICE: Final = "The command isos needs the server's packages: pip install 'ml-isos[server]'."


def main() -> None:
    """Run the command line; exit code 1 and a sentence where its packages are not installed."""
    if any(find_spec(name) is None for name in NEEDED):
        print(ADVICE, file=sys.stderr)
        sys.exit(1)
    from infra.cli import main as command_line

    command_line()
