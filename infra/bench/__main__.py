"""``python -m infra.bench SCENARIO``: a stack with its default settings, open-loop load on it, figures and ledger.

The stack runs in a folder of its own (``bench`` in the data directory, emptied before) unless ``ISOS_DATA_DIR`` names
one; ports and servers come from the settings.
"""

from __future__ import annotations

import sys

from infra.bench.run import run_named
from infra.program import ended
from infra.settings import load_settings


def main() -> int:
    """Run the scenario named on the command line (``headline`` by default); the exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "headline"
    return ended(lambda: run_named(name, load_settings()))


if __name__ == "__main__":
    sys.exit(main())
