"""``isos serving``: what serves a model where its version cannot, tries, hedging, breakers, and its SLO."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.serving_control import ServingControl
    from schemas.serving import ServingPolicy, Slo
    from streams.memory_view import MemoryView

app = new_app(has_verbs=True)

ModelArgument = Annotated[str, typer.Argument(help="Name of a registered model.")]
FallbackOption = Annotated[
    list[str] | None,
    typer.Option(help="A version that serves where the active one cannot; repeat it, first choice first."),
]
MaxAttemptsOption = Annotated[
    int | None, typer.Option(min=1, max=5, help="Tries of a request over the whole path; 1 = no second one.")
]
HedgeOption = Annotated[
    bool | None, typer.Option("--hedge/--no-hedge", help="Give requests that take long to another lane, too.")
]
BreakerOption = Annotated[
    bool | None, typer.Option("--breaker/--no-breaker", help="Keep a version that fails its requests from them.")
]
AutoRollbackOption = Annotated[
    bool | None,
    typer.Option(
        "--auto-rollback/--no-auto-rollback", help="Go back from a version that fails to the last known good one."
    ),
]
SloMsOption = Annotated[
    int | None, typer.Option(help="SLO: OK answers are there within so many ms (0 = no latency target).")
]
SloShareOption = Annotated[
    float | None, typer.Option(min=0.9, max=0.99999, help="SLO: the share of them that is; 0.99 if none was set.")
]
SloErrorShareOption = Annotated[
    float | None,
    typer.Option(min=0, max=0.1, help="SLO: the share of requests that may end as ERROR or EXPIRED (0 = any)."),
]


@app.command(epilog=examples("isos serving show", "isos serving show digits", "isos serving show --output json"))
def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model; all of them where none is given.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what serves a model, or each, and which versions' breakers are not closed.

    Exit code 3 for an unknown model.
    """
    from infra.serving_control import ServingControl, standing
    from streams.memory_view import models

    async def run(control: ServingControl) -> tuple[list[ServingPolicy], MemoryView]:
        names = [model] if model else sorted(models(control.view))
        return [standing(control.view, name) for name in names], control.view

    policies, view = controlled(settings_of(ctx), ServingControl, run)
    rows = [policy_row(policy, view) for policy in policies]
    breakers = {policy.model: breaker_rows(view, policy.model) for policy in policies}
    documents = [{**row, "open_breakers": breakers[row["model"]]} for row in rows]
    table = [table_row(row, policy) for row, policy in zip(rows, policies, strict=True)]
    if not rows and output is Output.TABLE:
        typer.echo("No model is registered. `isos models register --help` says how.", err=True)
        return
    write(table if output is Output.TABLE else documents, output, documents[0] if model else None)
    if output is Output.TABLE:
        for name, found in breakers.items():
            for each in found:
                when = f", for {each['seconds_left']} s more" if each["state"] == "open" else ""
                state = each["state"].replace("_", " ")
                typer.echo(f"breaker of {name} {each['version']}: {state}{when}: {each['reason']}")


@app.command(
    "set",
    epilog=examples(
        "isos serving set digits --fallback v1.0.0",
        "isos serving set digits --max-attempts 3 --hedge",
        "isos serving set digits --no-fallback --no-breaker",
        "isos serving set digits --slo-ms 250 --slo-share 0.99 --slo-error-share 0.001",
    ),
)
def set_(
    ctx: typer.Context,
    model: ModelArgument,
    fallback: FallbackOption = None,
    no_fallback: Annotated[bool, typer.Option("--no-fallback", help="No version stands in.")] = False,
    max_attempts: MaxAttemptsOption = None,
    hedge: HedgeOption = None,
    breaker: BreakerOption = None,
    auto_rollback: AutoRollbackOption = None,
    slo_ms: SloMsOption = None,
    slo_share: SloShareOption = None,
    slo_error_share: SloErrorShareOption = None,
    no_slo: Annotated[bool, typer.Option("--no-slo", help="The model promises nothing.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named and leave the rest.

    Fallbacks must take the same inputs as the active version. An SLO whose budget is spent too fast is an alert
    (`slo_burn`). Exit code 3 for an unknown model or version, 4 when the Orchestrator refuses, 5 when it does not
    answer in time.
    """
    from dataclasses import replace

    from infra.serving_control import ServingControl

    given = {"max_attempts": max_attempts, "hedge": hedge, "breaker": breaker, "auto_rollback": auto_rollback}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    changes |= fallbacks_given(fallback, no_fallback)
    slo_flags = (slo_ms, slo_share, slo_error_share)
    has_slo = slo_given(slo_flags, no_slo)
    if no_slo:
        changes["slo"] = None
    if not changes and not has_slo:
        raise typer.BadParameter("say what to change; `isos serving show MODEL` shows what stands")

    def changed(now: ServingPolicy) -> ServingPolicy:
        wanted = replace(now, **changes)
        return replace(wanted, slo=slo_or_usage(now.slo, *slo_flags)) if has_slo else wanted

    async def run(control: ServingControl) -> tuple[ServingPolicy, MemoryView]:
        policy = await control.set_policy(model, changed)
        return policy, control.view

    policy, view = controlled(settings_of(ctx), ServingControl, run)
    row = policy_row(policy, view)
    write([table_row(row, policy)], output, row)


def fallbacks_given(fallback: list[str] | None, no_fallback: bool) -> dict[str, tuple[str, ...]]:
    """The change of the fallbacks, if there is one; both flags are a usage error."""
    if fallback and no_fallback:
        raise typer.BadParameter("give either --fallback VERSION or --no-fallback", param_hint="--fallback")
    return {"fallbacks": tuple(fallback or ())} if fallback or no_fallback else {}


def slo_given(flags: tuple[int | float | None, ...], no_slo: bool) -> bool:
    """Whether flags change the SLO; one that they cannot make, or --no-slo beside them, is a usage error."""
    has_slo = any(flag is not None for flag in flags)
    if has_slo and no_slo:
        raise typer.BadParameter("give either --no-slo or what the SLO is to be", param_hint="--no-slo")
    if flags[0]:
        slo_or_usage(None, flags[0])
    return has_slo


def slo_or_usage(slo: Slo | None, *flags: Any) -> Slo:
    """The SLO with what the flags change; one that cannot be judged is a usage error."""
    from infra.serving_control import changed_slo

    try:
        return changed_slo(slo, *flags)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--slo-ms") from None


def policy_row(policy: ServingPolicy, view: MemoryView) -> dict[str, Any]:
    """A policy beside the version that is active; shares of an SLO as people give them."""
    from streams.memory_view import active_version

    row, slo = asdict(policy), policy.slo
    shares = None if slo is None else {
        "latency_ms": slo.latency_ms or None,
        "share": round(1 - slo.late_ppm / 1e6, 6) if slo.latency_ms else None,
        "error_share": slo.error_ppm / 1e6 or None,
    }  # fmt: skip
    return {"model": row.pop("model"), "active_version": active_version(view, policy.model), **row} | {
        "fallbacks": list(policy.fallbacks), "slo": shares,
    }  # fmt: skip


def table_row(row: dict[str, Any], policy: ServingPolicy) -> dict[str, Any]:
    """The row with texts for what would be a list or a record in a cell."""
    return {
        **row, "fallbacks": ", ".join(policy.fallbacks) or None, "slo": None if policy.slo is None else str(policy.slo),
    }  # fmt: skip


def breaker_rows(view: MemoryView, model: str) -> list[dict[str, Any]]:
    """The breakers of a model that are not closed, with the seconds that an open one stays so."""
    from streams.memory_view import breakers

    now_us = time.time_ns() // 1000
    return [
        {
            "version": version, "state": each.state, "reason": each.reason, "since_us": each.since_us,
            "seconds_left": max(0, each.until_us - now_us) // 1_000_000 if each.state == "open" else 0,
        }
        for version, each in sorted(breakers(view, model).items())
    ]  # fmt: skip
