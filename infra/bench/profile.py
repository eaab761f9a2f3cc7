"""``python -m infra.bench.profile``: what a request costs, process by process, and where the time goes.

A stack under a constant load, twice: first undisturbed, for the cost table; then with py-spy on every Python process,
for the flame graphs. Writes ``results/profile.json``, ``results/profile.md`` and ``results/profile.html``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from infra.bench.cost import cost_rows, markdown
from infra.bench.flame import Node, flame_svg, hottest, read_stacks
from infra.bench.generate import GENERATOR, process_ids
from infra.bench.models import mlps
from infra.bench.phase import Measured, Phase
from infra.bench.processes import child_id, commit, machine
from infra.bench.run import own_folder
from infra.bench.traffic import Traffic, looked, traffic_rows
from infra.bench.workbench import Workbench
from infra.program import ended
from infra.running_stack import running_stack, write_result
from infra.settings import ROOT, Settings, StartError, load_settings

SPY: Final = Path(sys.executable).with_name("py-spy")
NOT_PYTHON: Final = ("broker", "redis")
HOTTEST: Final = 15
SAMPLES_PER_S: Final = 100
_STYLE: Final = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}"
    "svg{width:100%;height:auto}svg text{font-size:10.5px}pre{overflow-x:auto}"
)


@dataclass(slots=True)
class Flames:
    """py-spy on processes, from ``after_s`` on for ``seconds``, on a thread of its own; ``folder`` gets a file each."""

    pids: Mapping[str, int]
    folder: Path
    after_s: float
    seconds: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to wait for the moment."""
        self._thread = threading.Thread(target=self._record, name="flames", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Node]:
        """Wait for the end and give a tree of samples per process; one that could not be looked at is absent."""
        assert self._thread is not None
        self._thread.join()
        found = {}
        for path in sorted(self.folder.glob("*.raw")):
            root = read_stacks(path.read_text(encoding="utf-8", errors="replace").splitlines())
            if root.samples:
                found[path.stem] = root
        return found

    def _record(self) -> None:
        self._stop.wait(self.after_s)
        pids = dict(self.pids)
        generator = child_id("infra.bench.generator", os.getpid())
        if generator is not None:
            pids[GENERATOR] = generator
        quiet, kept = subprocess.DEVNULL, subprocess.PIPE
        spies = [subprocess.Popen(self._command(name, pid), stdout=quiet, stderr=kept) for name, pid in pids.items()]
        for spy in spies:
            _, said = spy.communicate()
            if spy.returncode != 0:
                print(f"py-spy: {said.decode(errors='replace').strip()}", file=sys.stderr)

    def _command(self, name: str, pid: int) -> list[str]:
        options = ["-f", "raw", "-r", str(SAMPLES_PER_S), "-d", str(int(self.seconds)), "--nonblocking", "-F"]
        return [str(SPY), "record", "-p", str(pid), "-o", str(self.folder / f"{name}.raw"), *options]


def run_profile(settings: Settings, rate: float, num_models: int, seconds: float, warmup_s: float) -> int:
    """Measure and write the three files; 7 when a request is missing or answered twice.

    Raises StartError without py-spy, and for whatever keeps the stack from starting.
    """
    if not SPY.exists():
        raise StartError(f"There is no py-spy beside {sys.executable}; run `make setup`.", exit_code=1)
    bench = Workbench(settings, Console(stderr=True))
    with running_stack(settings), tempfile.TemporaryDirectory() as folder:
        models = mlps(num_models)
        bench.serve(models)
        loads = tuple(model.load for model in models)
        before = looked(settings)
        plain = bench.measure(Phase("cost", loads, rate, seconds, warmup_s))
        after = looked(settings)
        pids = {name: pid for name, pid in process_ids(settings).items() if name not in NOT_PYTHON}
        flames = Flames(pids, Path(folder), after_s=3.0, seconds=seconds)
        flames.start()
        bench.measure(Phase("flames", loads, rate, seconds + 2, 3.0))
        roots = flames.stop()
        ledger = bench.audit()
    result = profile_document(plain, (before, after), roots)
    result |= {"machine": machine(), "commit": commit(ROOT), "broker_jit": settings.broker_jit}
    result |= {name: ledger.total(name) for name in ("missing", "duplicated")}
    path = write_result("profile", result)
    table = table_of(result)
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    path.with_suffix(".html").write_text(page(table, roots), encoding="utf-8")
    print(table)
    print(f"Figures: {path}, flame graphs: {path.with_suffix('.html')}")
    return 7 if ledger.total("missing") or ledger.total("duplicated") else 0


def profile_document(plain: Measured, looks: tuple[Traffic, Traffic], roots: Mapping[str, Node]) -> dict[str, Any]:
    """Cost table, traffic per topic, and each process's hottest functions, of a phase without py-spy."""
    before, after = plain.frame()
    topics = traffic_rows(*looks, plain.phase.total_s)
    frames_s = next((row["records_s"] for row in topics if row["topic"] == "inference.routed"), 0.0)
    elapsed = after.at_s - before.at_s
    requests = plain.summary["sent"] * elapsed / plain.phase.total_s
    figures = {
        name: plain.summary[name] for name in ("sent", "ok", "rate_rps", "mean_ms", "p50_ms", "p99_ms", "max_ms")
    }
    return {
        "scenario": "profile",
        "parameters": {"rate": plain.phase.rate, "models": len(plain.phase.loads), "seconds": plain.phase.seconds},
        **figures,
        "cost": cost_rows(before, after, requests, frames_s * elapsed),
        "topics": topics,
        "hottest": {name: hottest(root, HOTTEST) for name, root in roots.items()},
    }


def table_of(result: Mapping[str, Any]) -> str:
    """Cost and traffic as Markdown."""
    load = f"{result['parameters']['models']} models, {result['rate_rps']:g} requests/s"
    latency = f"mean {result['mean_ms']}, p50 {result['p50_ms']}, p99 {result['p99_ms']} ms"
    return f"{load}: {latency}\n\n{markdown(result['cost'])}\n{markdown(result['topics'])}"


def page(table: str, roots: Mapping[str, Node]) -> str:
    """The flame graphs of all processes on one page without scripts; pointing at a box shows its name and share."""
    graphs = "".join(
        f"<h2>{escape(name)}</h2><p>{root.samples} samples</p>{flame_svg(root)}" for name, root in roots.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ML-ISOS profile</title>'
        f"<style>{_STYLE}</style></head><body><h1>ML-ISOS profile</h1><pre>{escape(table)}</pre>"
        f"{graphs}</body></html>\n"
    )


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make profile",
        description=__doc__.partition("\n\n")[2],
        epilog="examples:\n  make profile RATE=6000\n  python -m infra.bench.profile --models 1 --rate 15000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=1_850.0, help="requests a second (1850)")
    parser.add_argument("--models", type=int, default=12, help="models, with equal shares (12)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of the two stretches (20)")
    parser.add_argument("--warmup", type=float, default=30.0, help="seconds of load before the first stretch (30)")
    given = parser.parse_args()

    def run() -> int:
        settings = own_folder(load_settings())
        if "broker_jit" not in settings.model_fields_set:
            settings = settings.model_copy(update={"broker_jit": "steady"})
        return run_profile(settings, given.rate, given.models, given.seconds, given.warmup)

    return ended(run)


if __name__ == "__main__":
    sys.exit(main())
