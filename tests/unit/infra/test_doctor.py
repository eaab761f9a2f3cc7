"""Every probe is on its own: one that hangs or breaks says so and holds up nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from infra.doctor import Probe, diagnose, probes
from infra.doctor_check import Check
from infra.settings import load_settings


def test_a_probe_that_hangs_or_breaks_fails_alone(tmp_path: Path) -> None:
    forever = threading.Event()

    def hang(_: object) -> list[Check]:
        forever.wait()
        return []

    def breaks(_: object) -> list[Check]:
        raise KeyError("lost")

    chosen = [
        Probe("hangs", hang, 0.2),
        Probe("breaks", breaks),
        Probe("well", lambda _: [Check("well", "ok", "Fine."), Check("beside", "warn", "Odd.", "Look.")]),
        Probe("says nothing", lambda _: []),
    ]
    began = time.monotonic()
    found = diagnose(load_settings(data_dir=tmp_path), chosen)
    forever.set()
    assert time.monotonic() - began < 10
    assert [(each.name, each.state) for each in found] == [
        ("hangs", "fail"), ("breaks", "fail"), ("well", "ok"), ("beside", "warn")
    ]  # fmt: skip
    assert "No answer within 0.2 s" in found[0].sentence
    assert "KeyError" in found[1].sentence


def test_everything_that_the_program_needs_is_looked_at() -> None:
    names = {probe.name for probe in probes({})}
    assert names >= {
        "settings", "versions", "java", "jars", "disk", "ports", "stack", "broker", "topics", "schemas", "registry",
        "redis", "clock", "gpu",
    }  # fmt: skip
