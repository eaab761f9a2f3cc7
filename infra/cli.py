"""The command ``isos``: a table of nouns, each imported only when it is called, so that the help answers at once.

To add a noun: a module ``infra/commands/<noun>.py`` with an application named ``app`` (``output.new_app``), and a line
in ``COMMANDS``. Data goes to stdout, the rest to stderr; the exit codes are in ``EPILOG``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperGroup

from infra.program import ended

COMMANDS: Final[dict[str, str]] = {
    "up": "Start the local stack: broker, Redis and all processes.",
    "down": "Stop the local stack.",
    "restart": "Restart processes one by one, without losing a request.",
    "status": "Show the processes and what the Monitor sees.",
    "infer": "Send one request and print its result.",
    "models": "Register, list, show and activate models.",
    "serving": "Show or set fallbacks, tries, hedging and breakers of a model.",
    "scaling": "Show or set within what the number of executors moves.",
    "cache": "Cache answers of models, or no more; hits, and warming it.",
    "memory": "Show the memory, its history, its state at a time; verify it.",
    "replay": "Decide the control agents' journals once more, and compare.",
    "backtest": "Show what a control agent would have decided with other parameters.",
    "ledger": "Account for every request: missing, duplicated, in flight.",
    "explain": "Say how an answer came about: plan, version, executor, times.",
    "timeline": "Print what agents and people did, in order, with reasons.",
    "dlq": "List, show and send again dead letters.",
    "blobs": "List and show stored tensors, or collect those that no record names.",
    "validations": "List and show checks of model versions, or run them.",
    "reviews": "List, show, approve and reject what waits for a second person; keys of people.",
    "environment": "Show or set what this environment is, and what waits for an approval.",
    "incidents": "List and show what is wrong and what was decided about it.",
    "escalations": "List and show what agents handed to people.",
    "audit": "Who did what: list it, check that the log is whole, export it.",
    "topics": "List the topics, or create what is missing.",
    "tail": "Print the records of a topic as they come.",
    "doctor": "Check everything the program needs, and say what to do.",
    "config": "Show the settings and where each comes from, or check them.",
    "bench": "Measure throughput and latency.",
    "demo": "Run the main job once.",
}

EPILOG: Final = """\b
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused,
5 timed out, 6 something it depends on does not answer, 7 a gate failed.

Data goes to stdout, everything else to stderr. `isos COMMAND --help` shows
options and examples; README.md lists the settings for --set.
"""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and help line, and imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the nouns whose module is there, in the table's order."""
        del ctx
        return [name for name in COMMANDS if (Path(__file__).parent / "commands" / f"{name}.py").exists()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a noun's module and give its command; None when there is no such noun."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"infra.commands.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.help = command.help or COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the nouns with their help lines, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


app = typer.Typer(
    cls=LazyGroup, rich_markup_mode=None, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"isos {version('ml-isos')}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def root(
    ctx: typer.Context,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of logs, topics and state (setting data_dir).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set one setting; may be repeated.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Who does this, for the audit log (setting user); else the account.")
    ] = None,
    change_ticket: Annotated[
        str | None, typer.Option(help="Number of the change it belongs to, for the audit log (setting change_ticket).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """ML-ISOS: inference over Kafka, planned, routed, executed, checked and accounted for."""
    del version
    given = {"data_dir": data_dir, "user": user, "change_ticket": change_ticket}
    flags: dict[str, str | Path] = {name: value for name, value in given.items() if value is not None}
    for pair in settings or ():
        name, separator, value = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--set")
        flags[name.replace("-", "_").lower()] = value
    ctx.obj = flags


def is_text(argument: str) -> bool:
    """Whether an argument was UTF-8: other bytes stand in it as halves of surrogate pairs, which nothing can write."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def main() -> None:
    """Run the command line; a known error is one sentence on stderr and its exit code."""
    if not all(is_text(argument) for argument in sys.argv):
        print("An argument is not UTF-8.", file=sys.stderr)
        sys.exit(2)
    sys.exit(ended(lambda: app(prog_name="isos")))


if __name__ == "__main__":
    main()
