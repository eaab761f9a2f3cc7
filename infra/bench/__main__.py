"""``python -m infra.bench [SCENARIO] [--repeat N]``: the same as ``isos bench``, for `make bench`.

The stack runs in a folder of its own (``bench`` in the data directory, emptied before) unless ``ISOS_DATA_DIR`` names
one; ports and servers come from the settings.
"""

from __future__ import annotations

import argparse
import sys

from infra.bench.run import run_named
from infra.bench.scenario import SCENARIOS
from infra.program import ended
from infra.settings import load_settings


def main() -> int:
    """Run the scenario named on the command line (``headline`` by default); the exit code."""
    names = "\n".join(f"  {name:<10} {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Start a stack, load it, write results/SCENARIO.json and results/index.html.",
        epilog=f"scenarios:\n{names}\n  client     the Python client alone\n\n"
        "examples:\n  make bench SCENARIO=headline REPEAT=3\n  python -m infra.bench capacity\n"
        "  python -m infra.bench scaling --param row_ms=10 --param base_rps=9",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="?", default="headline", help="one of the scenarios below")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run it N times and report the median run")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=NUMBER", help="of a scenario: row_ms, base_rps (scaling)"
    )
    given = parser.parse_args()
    return ended(lambda: run_named(given.scenario, load_settings(), given.repeat, given.param))


if __name__ == "__main__":
    sys.exit(main())
