"""``isos backtest``: what a control agent would have decided with other parameters."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress
from infra.commands.replay import FromStartOption, chosen, time_text

if TYPE_CHECKING:
    from infra.settings import Settings
    from streams.agent import AgentSpec
    from streams.control.backtest import Backtest, Change

WIDTH: Final = 70


@dataclass
class Outcome:
    """A finished backtest: the newest changes, how many there were, and of those how many at idle ticks."""

    backtest: Backtest
    shown: deque[Change]
    num_changes: int = 0
    num_by_kind: dict[str, int] = field(default_factory=dict)


def backtest(
    ctx: typer.Context,
    agent: Annotated[str, typer.Argument(help="The control agent.")],
    policy: Annotated[Path, typer.Option("--policy", help="Its other parameters: .json, .toml or .yaml.")],
    from_start: FromStartOption = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many decisions, the newest; 0: all.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what AGENT would have decided otherwise under another policy.

    The policy is a file with some of the agent's parameters; the others stay (a wrong name is refused with those that
    there are). The journal's inputs are decided again under it, and every decision that falls otherwise is shown: as it
    was, and as it would be. After the first one the inputs are still those of the world as it was: what would have
    followed from the other decision is not in them. Ticks at which nothing was decided are not in a journal; they are
    put in where the policy in force slept.

    Exit code 3 for an agent or a journal that does not exist, 2 for a policy that is none.
    """
    from infra.journals import control_agents
    from infra.policy_file import PolicyFileError, changes, read_policy, with_policy

    settings = settings_of(ctx)
    spec = control_agents(settings)[chosen(settings, [agent], every=False)[0]]
    if spec.params is None:
        typer.echo(f"The {agent} has no parameters, so there is no other policy.", err=True)
        raise typer.Exit(2)
    try:
        params = with_policy(spec.params, read_policy(policy))
    except PolicyFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    with broker_answers():
        outcome = _run(settings, spec, params, from_start=from_start, limit=limit)
    changed = changes(spec.params, params)
    rows = [change_row(change) for change in outcome.shown]
    if output is Output.TABLE:
        write([table_row(each) for each in rows], output)
    else:
        write(rows, output, {**summary(agent, outcome), "policy": changed, "decisions": rows})
    for sentence in sentences(agent, outcome, changed):
        typer.echo(sentence, err=True)


def _run(settings: Settings, spec: AgentSpec, params: Any, *, from_start: bool, limit: int) -> Outcome:
    from infra.journals import Journals, begin_ms
    from streams.connection import Connection
    from streams.control.backtest import Backtest

    async def run() -> Outcome:
        journals = await Journals.open(Connection(settings.bootstrap))
        outcome = Outcome(Backtest(spec, journals.codec, params), deque(maxlen=limit or None))

        def take(offset: int, value: bytes | None) -> bool:
            for change in outcome.backtest.take(offset, value):
                outcome.shown.append(change)
                outcome.num_changes += 1
                outcome.num_by_kind[change.kind] = outcome.num_by_kind.get(change.kind, 0) + 1
            return True

        with shown_progress() as progress:
            await journals.read(spec.name, take, begin_ms(from_start=from_start), progress)
        outcome.backtest.end()
        return outcome

    return asyncio.run(run())


def change_row(change: Change) -> dict[str, Any]:
    """A change with its time in words."""
    return {"time": time_text(change.time_us), **asdict(change)}


def table_row(change: dict[str, Any]) -> dict[str, Any]:
    """A change on one line: what kind of effects, to whom."""
    return {
        "time": change["time"],
        "sequence": change["sequence"],
        "input": change["input"] or change["kind"],
        "was": effects_text(change["was"]),
        "would_be": effects_text(change["would_be"]),
    }


def effects_text(effects: Any) -> str:
    """Effects in few words, at most ``WIDTH`` characters."""
    text = "; ".join(_effect_text(effect) for effect in effects) or "nothing"
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _effect_text(effect: dict[str, Any]) -> str:
    record = effect["record"]
    facts = [effect["topic"], effect["key"]]
    if isinstance(record, dict):
        facts += [str(record[name]) for name in ("kind", "decision") if name in record]
        if "target_replicas" in record:
            facts.append(f"{record['current_replicas']} -> {record['target_replicas']}")
        facts += ["resolved"] if record.get("resolved") else []
        facts += [str(record["reason"])] if record.get("reason") else []
    return " ".join(facts)


def summary(agent: str, outcome: Outcome) -> dict[str, Any]:
    """Counts of a backtest."""
    recorded, found = outcome.backtest.recorded, outcome.backtest.difference
    return {
        "agent": agent,
        "entries": recorded.num_entries,
        "from_sequence": recorded.first_sequence,
        "idle_ticks": outcome.backtest.num_idle_ticks,
        "changes": outcome.num_changes,
        "changes_by_kind": outcome.num_by_kind,
        "difference_today": None if found is None else asdict(found),
    }


def sentences(agent: str, outcome: Outcome, changed: dict[str, Any]) -> list[str]:
    """The summary for people."""
    recorded, found = outcome.backtest.recorded, outcome.backtest.difference
    said = [
        f"{outcome.num_changes} decisions would be others, over {recorded.num_entries} journal entries"
        f" and {outcome.backtest.num_idle_ticks} idle ticks."
    ]
    if not changed:
        said.append("The policy is the one that is in force.")
    if outcome.num_changes > len(outcome.shown):
        said.append(f"The newest {len(outcome.shown)} are shown; --limit 0 shows all.")
    if found is not None:
        at = f"at sequence {found.sequence}" if found.sequence >= 0 else f"at offset {found.offset}"
        said.append(
            f"Under the policy in force today's code parts from the journal {at} already (`isos replay {agent}`): "
            "what is shown from there to the next snapshot is not the policy's alone."
        )
    return said


app = new_app()
app.command(
    epilog=examples("isos backtest monitor --policy quick.toml", "isos backtest planner --policy p.json --output json")
)(backtest)
