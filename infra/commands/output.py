"""What all commands share: how their help looks, the settings behind the flags, data on stdout in four forms.

Nothing heavy is imported before it is needed, so that the help of every command answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.errors import RetriableError

if TYPE_CHECKING:
    from infra.settings import Settings

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What moves a terminal's cursor or hides text on it."""


PLACE: Final = 200
"""Characters of a line where nobody looks on."""
SHORT: Final = 26
"""Characters that a column keeps where a table is wider than its place; the widest ones give way."""


class Output(StrEnum):
    """How data is written to stdout."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to write the data.")]


def new_app(*, has_verbs: bool = False) -> typer.Typer:
    """Make a noun's application: plain help text, no completion options; one with verbs shows its help by itself."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=has_verbs)


def examples(*lines: str) -> str:
    """Give the end of a command's help: one command per line, as it is typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


@contextlib.contextmanager
def broker_answers() -> Iterator[None]:
    """Around whatever asks the broker: when it does not answer, one sentence on stderr and exit code 6."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say stands in the sentence
    try:
        yield
    except RetriableError as error:
        typer.echo(f"The broker does not answer: {error}. `isos up` starts one; `isos status` looks.", err=True)
        raise typer.Exit(6) from None


def settings_of(ctx: typer.Context, **flags: Any) -> Settings:
    """Load the settings with the root's flags and a command's own; flags that are None count as not given."""
    from infra.settings import load_settings

    return load_settings(**{**(ctx.find_root().obj or {}), **{k: v for k, v in flags.items() if v is not None}})


def write(rows: Sequence[Mapping[str, Any]], output: Output, document: Mapping[str, Any] | None = None) -> None:
    """Write rows to stdout; JSON and YAML write ``document`` in their place where one is given."""
    if output is Output.TABLE:
        _write_table(rows)
    elif output is Output.JSONL:
        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
    elif output is Output.JSON:
        sys.stdout.write(json.dumps(rows if document is None else document, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(yaml_lines(list(rows) if document is None else document)) + "\n")


def yaml_lines(value: Any, indent: str = "") -> list[str]:
    """Give a JSON-like value as YAML lines; scalars are written as JSON, which YAML 1.2 reads."""
    if isinstance(value, Mapping) and value:
        lines: list[str] = []
        for key, item in value.items():
            if isinstance(item, Mapping | list | tuple) and item:
                lines += [f"{indent}{key}:", *yaml_lines(item, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {json.dumps(item)}")
        return lines
    if isinstance(value, list | tuple) and value:
        lines = []
        for item in value:
            first, *rest = yaml_lines(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        return lines
    return [f"{indent}{json.dumps(value)}"]


def _write_table(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    names = list(rows[0])
    cells = [["-" if row[name] is None else _CONTROL.sub("?", str(row[name])) for name in names] for row in rows]
    console = Console(width=None if sys.stdout.isatty() else PLACE)
    most = widest([max(map(len, column)) for column in zip(names, *cells, strict=True)], console.width)
    for name in names:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True, max_width=most)
    for each in cells:
        table.add_row(*(Text(cell) for cell in each))  # no markup: others wrote it
    console.print(table)


def widest(columns: Sequence[int], place: int) -> int:
    """How wide a column may be, so that all fit into ``place`` with two blanks between; at least ``SHORT``."""
    room = place - 2 * (len(columns) - 1)
    most = min(max(columns), max(room, SHORT))
    while most > SHORT and sum(min(each, most) for each in columns) > room:
        most -= 1
    return most
