"""``isos config``: the settings as they are in force, where each comes from, and whether they fit together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.settings import Settings

app = new_app(has_verbs=True)


@app.command(
    epilog=examples("isos config show", "isos config show --origin partitions redis_url", "isos config show -o json")
)
def show(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these settings.")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every setting with its value and default; passwords are masked.

    Exit code 2 when the settings are invalid, 3 for a name that is none.
    """
    from infra.settings_source import did_you_mean

    settings = settings_of(ctx)
    rows = {row["setting"]: row for row in setting_rows(settings, ctx.find_root().obj or {})}
    for name in names or ():
        if name not in rows:
            meant = did_you_mean(name, rows)
            typer.echo(f"There is no setting {name}{f'; did you mean {meant}?' if meant else '.'}", err=True)
            raise typer.Exit(3)
    chosen = [rows[name] for name in names] if names else list(rows.values())
    if output is Output.TABLE:
        columns = ("setting", "value", "default", *(("origin",) if origin else ()))
        chosen = [{name: _cell(row[name]) for name in columns} for row in chosen]
    write(chosen, output)


@app.command(epilog=examples("isos config check", "isos --set partitions=4 config check --output json"))
def check(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Check all settings: each value, names that are none, what does not fit together, the folders, the rules file.

    Exit code 2 when something is wrong, as the start would give; warnings alone are 0.
    """
    from infra.settings_check import check_settings

    found = check_settings(ctx.find_root().obj or {})
    rows = [{"level": each.level, "setting": each.setting, "what": each.sentence} for each in found]
    if rows or output is not Output.TABLE:
        write(rows, output)
    wrong = sum(each.level == "error" for each in found)
    typer.echo(f"{wrong} errors, {len(found) - wrong} warnings.", err=True)
    if wrong:
        raise typer.Exit(2)


def setting_rows(settings: Settings, flags: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per setting: value, default, origin, meaning."""
    from infra.settings import PROJECT_FILE, USER_FILE
    from infra.settings_source import origins, shown

    fields = type(settings).model_fields
    files = [Path(PROJECT_FILE).absolute(), Path(USER_FILE).expanduser()]
    found = origins(fields, flags, os.environ, files)
    return [
        {
            "setting": name,
            "value": shown(name, getattr(settings, name)),
            "default": shown(name, field.default),
            "origin": str(found[name]),
            "meaning": field.description,
        }
        for name, field in fields.items()
    ]


def _cell(value: Any) -> Any:
    """Numbers stand as text: a column of settings is of many kinds."""
    return "-" if value == "" else str(value).lower() if isinstance(value, bool) else str(value)
