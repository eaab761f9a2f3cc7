"""``isos doctor``: is everything well, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from infra.commands.output import Output, OutputOption, examples, new_app, write

app = new_app()

UNREACHABLE = 6


@app.command(epilog=examples("isos doctor", "isos --set brokers=10.0.0.5:9092 doctor --output json"))
def doctor(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Check settings, versions, Java, disk, ports, broker, topics, schemas, Redis, clock and GPU.

    Works with or without a running stack and alters nothing. Exit code 0 when nothing fails (warnings are allowed), 6
    when the broker does not answer, else 1.
    """
    from infra.doctor import diagnose, probes

    flags = ctx.find_root().obj or {}
    checks = _invalid(flags) or diagnose(_settings(flags), probes(flags))
    rows: list[dict[str, Any]] = [asdict(check) for check in checks]
    counts = {state: sum(each.state == state for each in checks) for state in ("ok", "warn", "fail")}
    if output is Output.TABLE:
        _print(checks)
    else:
        write(rows, output, {**counts, "checks": rows})
    typer.echo(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed.", err=True)
    failed = [each for each in checks if each.state == "fail"]
    if failed:
        raise typer.Exit(UNREACHABLE if any(each.name == "broker" for each in failed) else 1)


def _settings(flags: dict[str, Any]) -> Any:
    from infra.settings import load_settings

    return load_settings(**flags)


def _invalid(flags: dict[str, Any]) -> list[Any]:
    """Checks in place of all others when the settings cannot even be loaded."""
    from infra.doctor_machine import settings as look
    from infra.settings import StartError

    try:
        _settings(flags)
    except StartError:
        return look(None, flags)
    return []


def _print(checks: list[Any]) -> None:
    width = max(len(each.name) for each in checks)
    for each in checks:
        print(f"{each.state:<4}  {each.name:<{width}}  {each.sentence}")
        if each.remedy:
            print(f"{'':<{width + 6}}  -> {each.remedy}")
