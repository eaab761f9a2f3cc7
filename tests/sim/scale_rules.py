"""What must hold of the Scaler's actions, judged by its journal: what it had been told when it acted, entry by entry.

With nothing of the Scaler's own code but its parameters: the policy that stands, who was heard when, and which words
that are not zero nobody has taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from agents.pool_look import Params
from schemas.journal import JournalEntry
from schemas.load import ExecutorLoad
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import SLOW, Plan
from schemas.scaling import BatchBound, ScaleAction, ScaleConfirmation, ScalingPolicy
from schemas.telemetry import Heartbeat, RouterLoad
from streams.canonical import from_json

SEEN: Final = "replicas are lowered only by what is seen"
BOUNDED: Final = "replicas stay within the policy"
SINGLE: Final = "one scale action stands at a time"
GROWN: Final = "batches grow only as policy, plan and SLO allow"
POOL: Final = "executors"

Decode = Callable[[str, bytes | None], Any]


class ScaleRules:
    """``take`` an entry: the rules that its actions break, with a sentence each."""

    def __init__(self, params: Params, decode: Decode, count: Callable[[str], None] = lambda _: None) -> None:
        self.count = count
        self.params = params
        self.decode = decode
        self.heard: dict[str, int] = {}
        self.loads: dict[tuple[str, int], tuple[float, int]] = {}
        self.waiting: dict[tuple[str, str], tuple[int, int]] = {}
        self.slow: set[str] = set()
        self.plans: dict[str, Plan] = {}
        self.policy: ScalingPolicy | None = None
        self.standing: ScaleAction | None = None
        self.ended_us = 0
        self.listening_us = 0
        self.last_us = 0
        self.ids: set[str] = set()

    def take(self, entry: JournalEntry) -> Iterator[tuple[str, str]]:
        """Judge an entry of the Scaler's journal."""
        if entry.kind == "snapshot":
            return
        if entry.time_us - self.last_us > self.params.pause_us:
            self.listening_us = entry.time_us
        self.last_us = entry.time_us
        if entry.kind == "record":
            self.hear(entry.time_us, self.decode(entry.input_topic, entry.input_value))
        for effect in entry.effects:
            record = self.decode(effect.topic, effect.value)
            if isinstance(record, ScaleAction):
                yield from self.judge(entry.time_us, record)
            elif isinstance(record, MemoryCommand):
                yield from self.judge_bound(record)

    def hear(self, now_us: int, record: Any) -> None:
        match record:
            case Heartbeat():
                name = f"{record.role}-{record.instance}"
                self.heard[name] = max(self.heard.get(name, 0), min(record.sent_us, now_us))
            case RouterLoad():
                amount = record.rows_per_s + record.num_held
                self.loads[record.model, record.instance] = amount, min(record.sent_us, now_us)
            case ExecutorLoad():
                for key in [key for key in self.waiting if key[0] == record.executor]:
                    del self.waiting[key]
                for version in record.versions:
                    key = record.executor, version.model
                    before = self.waiting.get(key, (0, 0))[0]
                    self.waiting[key] = before + sum(version.waiting_items), min(record.sent_us, now_us)
            case ScaleConfirmation() if self.standing is not None:
                if (record.pool, record.action_id) == (POOL, self.standing.action_id):
                    self.standing, self.ended_us = None, now_us
            case MemoryEvent(key="scaling/executors", body=str(body)):
                self.policy = from_json(ScalingPolicy, body)
            case MemoryEvent(body=str(body)) if record.key.startswith("plan/"):
                plan = from_json(Plan, body)
                (self.slow.add if plan.lane == SLOW else self.slow.discard)(plan.model)
                self.plans[plan.model] = plan

    def judge_bound(self, command: MemoryCommand) -> Iterator[tuple[str, str]]:
        """The rules that a proposal of larger batches breaks; back it may always go."""
        self.count(command.kind)
        asked = from_json(BatchBound, command.body)
        if not asked.max_items:
            return
        plan = self.plans.get(asked.model)
        if self.policy is None or "batch" not in self.policy.vertical:
            yield GROWN, f"{command.command_id} without a policy that wants it"
        if plan is None or plan.slo is None or not 1 <= asked.max_items <= plan.max_batch_size:
            yield GROWN, f"{command.command_id}: {asked.max_items} items by the plan {plan}"

    def judge(self, now_us: int, action: ScaleAction) -> Iterator[tuple[str, str]]:
        """The rules that an action breaks."""
        what = f"{action.decision} from {action.current_replicas} to {action.target_replicas} at {now_us}"
        if action.action_id in self.ids and action.decision != "hold":
            yield SINGLE, f"the id {action.action_id} comes a second time"
        self.ids.add(action.action_id)
        sign = (action.target_replicas > action.current_replicas) - (action.target_replicas < action.current_replicas)
        if {"hold": 0, "scale_up": 1, "scale_down": -1}.get(action.decision) != sign:
            yield BOUNDED, f"it says {what}"
        if action.decision == "hold":
            return
        self.count(action.decision)
        if self.policy is None:
            yield BOUNDED, f"{what} without a policy"
            return
        least = 0 if self.policy.min_replicas == 0 else self.policy.floor
        if not least <= action.target_replicas <= self.policy.ceiling:
            yield BOUNDED, f"{what}, and the policy allows {least} to {self.policy.ceiling}"
        if self.standing is not None and now_us - self.standing.time_us < self.params.confirm_us:
            yield SINGLE, f"{what} while {self.standing.action_id} stands"
        if sign < 0:
            missing = self.missing(now_us, action.current_replicas)
            if missing:
                yield SEEN, f"{what}, but {missing}"
            if self.ended_us and now_us - self.ended_us < self.policy.cooldown_s * 1_000_000 and action.target_replicas:
                yield SINGLE, f"{what} before the cooldown is over"
        self.standing = action

    def missing(self, now_us: int, current: int) -> str:
        """What the Scaler does not know now, or an empty string."""
        silent_us, forget_us = self.params.picture.silent_us, self.params.picture.forget_us
        if now_us - self.listening_us < silent_us:
            return f"it listens since {now_us - self.listening_us} us only"
        for role in ("router", "executor") if current else ("router",):
            newest = max((at for name, at in self.heard.items() if name.startswith(f"{role}-")), default=0)
            if now_us - newest >= silent_us:
                return f"no {role} was heard for {now_us - newest} us"
        for (model, instance), (amount, sent_us) in sorted(self.loads.items()):
            if amount and model not in self.slow and silent_us < now_us - sent_us < forget_us:
                return f"the load of {model} at Router {instance} is {now_us - sent_us} us old"
        for (executor, model), (waiting, sent_us) in sorted(self.waiting.items()):
            if waiting and model not in self.slow and silent_us < now_us - sent_us < forget_us:
                return f"what waits of {model} in {executor} was said {now_us - sent_us} us ago"
        return ""
