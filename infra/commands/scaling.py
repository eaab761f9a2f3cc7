"""``isos scaling``: how many executors there are in a pool, and within what the Scaler moves them."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.scaling_control import ScalingControl
    from infra.settings import Settings
    from schemas.scaling import ScalingPolicy
    from streams.memory_view import MemoryView

app = new_app(has_verbs=True)


class PoolName(StrEnum):
    """Pools of executors, by the models that they serve."""

    FAST = "fast"
    SLOW = "slow"

    @property
    def key(self) -> str:
        """The pool's name in memory."""
        from streams.lane_class import POOL, SLOW_POOL

        return SLOW_POOL if self is PoolName.SLOW else POOL


PoolOption = Annotated[
    PoolName, typer.Option(help="Executors of fast models, or of slow ones (full batches over 5 ms).")
]
MinReplicasOption = Annotated[
    int | None, typer.Option(min=0, max=64, help="Fewest executors; 0 lets an idle pool sleep.")
]
MaxReplicasOption = Annotated[
    int | None, typer.Option(min=1, max=64, help="Most executors (and max_executors, max_slow_executors).")
]
TargetUtilizationOption = Annotated[
    int | None, typer.Option(min=10, max=95, help="Percent of its time that an executor is to be busy.")
]
TargetOngoingRequestsOption = Annotated[
    int | None, typer.Option(min=0, help="Items under way per executor (0 = not looked at).")
]
LagThresholdOption = Annotated[
    int | None, typer.Option(min=0, help="Items that wait per executor (0 = not looked at).")
]
DrainSOption = Annotated[int | None, typer.Option(min=1, max=86_400, help="In what time a backlog is to be gone.")]
UpscaleDelaySOption = Annotated[
    int | None, typer.Option(min=0, max=86_400, help="How long more must be needed without a break.")
]
DownscaleDelaySOption = Annotated[
    int | None, typer.Option(min=0, max=86_400, help="How long fewer must be needed without a break.")
]
CooldownSOption = Annotated[
    int | None, typer.Option(min=0, max=86_400, help="Least time from one step's end to the next.")
]
CostPerReplicaOption = Annotated[
    float | None, typer.Option(min=0, max=1e9, help="Cost of an executor per hour, in any currency (0 = none).")
]
BudgetOption = Annotated[
    float | None, typer.Option(min=0, max=1e9, help="Most that all executors may cost per hour (0 = any).")
]
IdleSOption = Annotated[
    int | None, typer.Option(min=0, max=86_400, help="With a least of 0: time without a request, then sleep.")
]
ForecastSOption = Annotated[
    int | None, typer.Option(min=0, max=86_400, help="How far ahead the load is foreseen (0 = not).")
]
ScaleAboveOption = Annotated[
    int | None, typer.Option(min=0, help="Requests per second below which the fewest suffice.")
]
VerticalOption = Annotated[
    str | None, typer.Option(help="What is tried before another executor: batch (larger batches), or none.")
]
VerticalGainOption = Annotated[
    int | None, typer.Option(min=1, max=100, help="Percent more that such a step must carry.")
]


@app.command(epilog=examples("isos scaling show", "isos scaling show --pool slow", "isos scaling show --output json"))
def show(ctx: typer.Context, pool: PoolOption = PoolName.FAST, output: OutputOption = Output.TABLE) -> None:
    """Show the policy of a pool of executors and how many are ready.

    `isos timeline` shows each step with its reason.
    """
    from infra.scaling_control import ScalingControl, standing

    async def run(control: ScalingControl) -> tuple[ScalingPolicy, MemoryView]:
        return standing(control.view, pool.key), control.view

    policy, view = controlled(settings_of(ctx), ScalingControl, run)
    row = policy_row(policy, view)
    write([table_row(row)], output, row)
    if output is Output.TABLE and not row["is_set"]:
        typer.echo("No policy is set: the number of executors stays. `isos scaling set --help` says how.", err=True)


@app.command(
    "set",
    epilog=examples(
        "isos scaling set --min-replicas 1 --max-replicas 4",
        "isos scaling set --target-utilization 70 --downscale-delay-s 120",
        "isos scaling set --min-replicas 0 --idle-s 600",
        "isos scaling set --cost-per-replica 0.35 --budget 1.5",
        "isos scaling set --pool slow --max-replicas 3",
        "isos scaling set --vertical batch --vertical-gain 10",
    ),
)
def set_(
    ctx: typer.Context,
    pool: PoolOption = PoolName.FAST,
    min_replicas: MinReplicasOption = None,
    max_replicas: MaxReplicasOption = None,
    target_utilization: TargetUtilizationOption = None,
    target_ongoing_requests: TargetOngoingRequestsOption = None,
    lag_threshold: LagThresholdOption = None,
    drain_s: DrainSOption = None,
    upscale_delay_s: UpscaleDelaySOption = None,
    downscale_delay_s: DownscaleDelaySOption = None,
    cooldown_s: CooldownSOption = None,
    cost_per_replica: CostPerReplicaOption = None,
    budget: BudgetOption = None,
    idle_s: IdleSOption = None,
    forecast_s: ForecastSOption = None,
    scale_above: ScaleAboveOption = None,
    vertical: VerticalOption = None,
    vertical_gain: VerticalGainOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named and leave the rest.

    Exit code 4 when the Orchestrator refuses, 5 when it does not answer in time.
    """
    from dataclasses import replace

    given = {
        "min_replicas": min_replicas, "max_replicas": max_replicas, "target_utilization_percent": target_utilization,
        "target_ongoing_requests": target_ongoing_requests, "lag_threshold": lag_threshold, "drain_s": drain_s,
        "upscale_delay_s": upscale_delay_s, "downscale_delay_s": downscale_delay_s, "cooldown_s": cooldown_s,
        "cost_per_replica_milli": milli(cost_per_replica), "budget_milli": milli(budget), "idle_s": idle_s,
        "forecast_s": forecast_s, "scale_above_rows_per_s": scale_above,
        "vertical": None if vertical is None else steps(vertical), "vertical_gain_percent": vertical_gain,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("say what to change; `isos scaling show` shows what stands")

    def changed(now: ScalingPolicy) -> ScalingPolicy:
        wanted = replace(now, **changes)
        if wanted.problem:
            raise typer.BadParameter(wanted.problem)
        return wanted

    from infra.scaling_control import ScalingControl

    async def run(control: ScalingControl) -> tuple[ScalingPolicy, MemoryView]:
        policy = await control.set_policy(changed, pool.key)
        return policy, control.view

    settings = settings_of(ctx)
    policy, view = controlled(settings, ScalingControl, run)
    row = policy_row(policy, view)
    write([table_row(row)], output, row)
    if hint := too_many(policy, settings):
        typer.echo(hint, err=True)


def steps(text: str) -> tuple[str, ...]:
    """Names with commas between them; ``none`` for none."""
    return () if text.strip() == "none" else tuple([each.strip() for each in text.split(",")])


def milli(money: float | None) -> int | None:
    """Thousandths of what a person gives."""
    return None if money is None else round(money * 1_000)


def too_many(policy: ScalingPolicy, settings: Settings) -> str:
    """A sentence where the stack cannot have as many executors as the policy allows, or an empty string."""
    from streams.lane_class import SLOW_POOL

    is_slow = policy.pool == SLOW_POOL
    most = settings.num_slow_lanes if is_slow else settings.most_executors
    if policy.ceiling <= most:
        return ""
    kind, setting = ("slow executors", "max_slow_executors") if is_slow else ("executors", "max_executors")
    return (
        f"The stack starts at most {most} {kind}: for {policy.ceiling}, start it with "
        f"--set {setting}={policy.ceiling} (each has a lane of its own)."
    )


def policy_row(policy: ScalingPolicy, view: MemoryView) -> dict[str, Any]:
    """A policy beside how many executors are ready (None: nobody has said); money as people give it."""
    from streams.memory_view import replicas, scaling_policy

    row, noted = asdict(policy), replicas(view, policy.pool)
    money = {name: row.pop(f"{name}_milli") / 1_000 or None for name in ("cost_per_replica", "budget")}
    ready = None if noted is None else noted.replicas
    return {
        "pool": row.pop("pool"),
        "is_set": scaling_policy(view, policy.pool) is not None,
        "replicas": ready,
        **row,
        **money,
    }


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """What a line of a terminal has room for: the rest that is set follows as one text."""
    head = ("pool", "replicas", "min_replicas", "max_replicas")
    rest = {name: value for name, value in row.items() if name not in (*head, "is_set") and value}
    if "vertical" in rest:
        rest["vertical"] = ", ".join(rest["vertical"])
    else:
        rest.pop("vertical_gain_percent")
    return {**{name: row[name] for name in head}, "rules": ", ".join(f"{name} {value}" for name, value in rest.items())}
