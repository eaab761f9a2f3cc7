"""``python -m infra.bench SCENARIO``: a stack with its default settings, open-loop load on it, figures and ledger.

The stack runs in a folder of its own (``bench`` in the data directory, emptied before) unless ``ISOS_DATA_DIR`` names
one; ports and servers come from the settings.
"""

from __future__ import annotations

import sys

from infra.bench.run import run_named
from infra.settings import load_settings
from streams.errors import IsosError


def main() -> int:
    """Run the scenario named on the command line (``headline`` by default); the exit code."""
    try:
        return run_named(sys.argv[1] if len(sys.argv) > 1 else "headline", load_settings())
    except IsosError as error:
        print(error, file=sys.stderr)
        return int(getattr(error, "exit_code", 6))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
