"""Who stands outside: clients that send requests, good and bad, and an operator who registers models and sets rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from agents.constraint import KIND, Constraint
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion, TensorSpec
from schemas.request import InferenceRequest, Tensor
from schemas.review import ContextSignal
from schemas.serving import ServingPolicy
from schemas.telemetry import Alert
from streams.canonical import to_json
from streams.check_id import TENANT, check_id
from streams.memory_view import MemoryView, models, plan
from tests.sim.breaker_invariants import stir
from tests.sim.canary_rules import share
from tests.sim.order_invariants import Line, asked, ordered_model
from tests.sim.processes import Process
from tests.sim.profile import FOREVER_US
from tests.sim.retry_invariants import FAILING, FOR_EVER, RECOVERS
from tests.sim.roles import CHECK_KEY, FAILS, NOT_FINITE
from tests.sim.shadow_invariants import shade
from tests.sim.world import REQUEST_PARTITIONS, World

MODEL_NAMES: Final = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
WIDTH: Final = 2
REPEATED: Final = ("OK", "duplicate_in_flight", "id_conflict")
CHECKS: Final = 53
"""Each so many-th request is one of a check; each ``PRETENDERS``-th says that it is, and is none."""
PRETENDERS: Final = 41


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request must end with: one of ``codes`` ("OK" or an error code; empty = anything), and its outputs."""

    codes: tuple[str, ...]
    outputs: bytes = b""
    request_id: str = ""


class Client:
    """Sends requests; ``expected`` per (partition, offset)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.expected: dict[tuple[int, int], Expected] = {}
        self.requests: dict[int, set[int]] = {partition: set() for partition in range(REQUEST_PARTITIONS)}
        self.ordered: dict[int, list[int]] = {partition: [] for partition in range(REQUEST_PARTITIONS)}
        self.sent: list[InferenceRequest] = []
        self.uses: dict[str, int] = {}
        self.expected_of: dict[str, tuple[str, ...]] = {}
        self.in_order = ordered_model(world.profile, MODEL_NAMES)
        self.lines: dict[tuple[int, int], Line] = {}

    def send(self, processes: list[Process], memory: MemoryView, registered: list[str]) -> str:
        """Send one request, or leave a gap as an aborted transaction does."""
        rng = self.world.rng
        partition = rng.randrange(REQUEST_PARTITIONS)
        chance = rng.random()
        if chance < 0.03:
            self.world.log.skip("inference.requests", partition, rng.randint(1, 3))
            return f"{partition}: an aborted transaction"
        if chance < 0.05:
            offset = self.world.append("inference.requests", partition, None, rng.choice((None, b"", b"rubbish")))
            self.note(partition, offset, Expected(("garbage", "null_value")))
            return f"{partition}@{offset}: garbage"
        which = rng.random()
        model = registered[-1] if which < 0.3 else rng.choice(registered if which < 0.95 else MODEL_NAMES)
        if self.world.profile.cached and rng.random() < 0.6:
            model = registered[0]
        if self.in_order in registered and rng.random() < 0.5:
            model = self.in_order
        codes = self.codes_of(model, processes, memory)
        if self.world.profile.bound_us < FOREVER_US:  # in most worlds nobody says that memory's writer lives
            codes = (*codes, "memory_silent")
        request, expected = self.request(model, codes, registered)
        value = self.world.codec.encode("inference.requests", request)
        offset = self.world.append("inference.requests", partition, request.request_id.encode(), value)
        self.note(partition, offset, expected)
        if request.model == self.in_order and request.routing_key:
            self.lines[partition, offset] = request.model, request.routing_key
        return f"{partition}@{offset}: {request.model}, expects {'|'.join(expected.codes)}"

    def note(self, partition: int, offset: int, expected: Expected) -> None:
        """Remember what a request must end with."""
        self.expected[partition, offset] = expected
        self.requests[partition].add(offset)
        self.ordered[partition].append(offset)

    def may_end(self, expected: Expected, code: str) -> bool:
        """Whether a request may have ended so; one whose id was used again may have met the other one."""
        return code in expected.codes or (self.uses.get(expected.request_id, 0) > 1 and code in REPEATED)

    def request(self, model: str, codes: tuple[str, ...], registered: list[str]) -> tuple[InferenceRequest, Expected]:
        """A request that ends with one of ``codes`` unless chance spoils it."""
        rng = self.world.rng
        number = self.world.number()
        items, first = rng.randint(1, 3), number
        if self.world.profile.cached and rng.random() < 0.6:
            items, first = 1, -rng.randint(10, 14)  # one of few inputs, which come again and again
        data = np.arange(items * WIDTH, dtype=np.float32).reshape(items, WIDTH) + np.float32(first)
        timeout_ms = 0
        kind = rng.random()
        if kind < 0.03:
            data[rng.randrange(items), 0] = FAILS
            codes = _instead(codes, "execution_failed")
        elif kind < 0.06:
            data[rng.randrange(items), 1] = NOT_FINITE
            codes = _instead(codes, "output_invalid")
        elif kind < 0.09:
            data[0, 0] = np.nan
            codes = _instead(codes, "not_finite")
        elif kind < 0.12:
            timeout_ms = rng.randint(1, 2_000)
            codes = (*codes, "deadline_exceeded", "no_plan", "overloaded")
        elif kind < 0.12 + self.world.profile.passing:
            items, times = 1, rng.choice((1, 2, RECOVERS, FOR_EVER))
            data = np.array([[FAILING - number, times]], np.float32)
            codes = codes if times <= RECOVERS else _instead(codes, "execution_failed")
            if self.world.profile.poor or "memory_silent" in codes:  # no second try: for its cost, or in the silence
                codes = (*codes, "execution_failed")
            if (model == self.in_order and times > 1) or self.world.profile.breakers:
                codes = (*codes, "execution_failed")  # it is tried in one place only
        name = f"r{number}"
        if self.sent and rng.random() < 0.08:
            earlier = rng.choice(self.sent[-10:])
            name, codes = earlier.request_id, (*codes, *REPEATED)
            if rng.random() < 0.6:
                model, data = earlier.model, np.frombuffer(earlier.inputs[0].data, np.float32).reshape(-1, WIDTH)
                items, codes = len(data), (*codes, *self.expected_of[name])
        key, version = rng.choice((None, "k")), None
        if self.world.profile.canaries:
            key = f"k{rng.randint(0, 30)}"
        if model == self.in_order:
            key, version = asked(rng, model, registered)
        tensor, tenant = Tensor("x", "FP32", (items, WIDTH), data.tobytes()), "default"
        if not number % CHECKS:
            name, tenant = check_id(CHECK_KEY, f"{number:016x}", model, version or "", (tensor,)), TENANT
        elif not number % PRETENDERS:
            tenant = TENANT
        self.uses[name] = self.uses.get(name, 0) + 1
        self.expected_of[name] = (*self.expected_of.get(name, ()), *codes)
        request = InferenceRequest(
            name, model, (tensor,), tenant, version, priority=rng.randint(0, 9), timeout_ms=timeout_ms,
            routing_key=key,
        )  # fmt: skip
        self.sent.append(request)
        if not number % PRETENDERS and number % CHECKS:
            again = codes if self.uses[name] > 1 else ()  # of a check: then it is that check once more
            codes = (*again, "reserved_tenant")
        return request, Expected(codes, (data * 2 + 1).tobytes(), name)

    def codes_of(self, model: str, processes: list[Process], memory: MemoryView) -> tuple[str, ...]:
        """OK for sure if every edge knows the model and no Router can give up waiting for its plan.

        A process that starts from now on has folded memory as it stands.
        """
        codes: tuple[str, ...] = ("OK",) if self.world.profile.rate_per_s > 10 else ("OK", "quota_exceeded")
        edges = [memory] + [process.view for process in processes if process.role == "edge" and process.alive]
        routers = [memory] + [process.view for process in processes if process.role == "router" and process.alive]
        if not all(model in models(view) for view in edges):
            codes = (*codes, "unknown_model")
        if self.world.profile.hold_us < 10_000_000 and not all(_has_plan(view, model) for view in routers):
            codes = (*codes, "no_plan")
        return (*codes, "circuit_open") if self.world.profile.breakers else codes


def _has_plan(view: MemoryView, model: str) -> bool:
    return plan(view, model) is not None


def _instead(codes: tuple[str, ...], code: str) -> tuple[str, ...]:
    return (code, *(each for each in codes if each != "OK"))


class Operator:
    """Registers models one after the other, sets rules for their plans, raises and resolves alerts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.registered: list[str] = []
        self.epochs: dict[str, int] = {}
        self.alerts = 0

    def act(self, view: MemoryView) -> str:
        """Do one thing; ``view``: memory as it stands."""
        rng = self.world.rng
        if self.world.profile.canaries and rng.random() < 0.5:
            return share(self.world, view, rng.choice((self.registered[0], rng.choice(self.registered))))
        if self.world.profile.cached and rng.random() < 0.4:
            return self.cache(rng.choice(self.registered), enabled=rng.random() < 0.8, later=rng.random() < 0.6)
        if self.world.profile.breakers and rng.random() < 0.5:
            return stir(self.world, rng.choice(self.registered))
        if self.world.profile.hedged and rng.random() < 0.2:
            return self.serve(ServingPolicy(rng.choice(self.registered), hedge=rng.random() < 0.7))
        if self.world.profile.shadowed and rng.random() < 0.3:
            return shade(self.world, rng.choice(self.registered))
        if rng.random() < 0.2:
            return self.register(rng.choice(self.registered), f"v1.{rng.randint(1, 3)}.0")
        if len(self.registered) < len(MODEL_NAMES) and rng.random() < 0.3:
            return self.register(MODEL_NAMES[len(self.registered)])
        if rng.random() < 0.5:
            return self.constrain(rng.choice(MODEL_NAMES), rng.randint(1, 8))
        return self.alert(rng.randint(1, 5), resolved=rng.random() < 0.5)

    def register(self, name: str, version: str = "v1.0.0") -> str:
        """Register a version of a model; the first one is served."""
        tensors = (TensorSpec("x", "FP32", (WIDTH,)),), (TensorSpec("y", "FP32", (WIDTH,)),)
        ordered = name == ordered_model(self.world.profile, MODEL_NAMES)
        model = ModelVersion(name, version, "ab" * 32, 10, *tensors, max_batch_size=8, ordered=ordered)
        key = f"model/{name}/{version}"
        command = MemoryCommand(
            f"register/{name}/{version}", "cli", "RegisterModel", key, 0, to_json(model), "", (), self.world.now_us
        )
        self.world.append("memory.commands", 0, key.encode(), self.world.codec.encode("memory.commands", command))
        if name not in self.registered:
            self.registered.append(name)
            if self.world.profile.cached:
                self.cache(name, enabled=True, later=True)
            if self.world.profile.hedged:
                self.serve(ServingPolicy(name, hedge=True))
            if self.world.profile.shadowed:
                self.register(name, "v1.1.0")
                shade(self.world, name)
        return f"registers {name} {version}"

    def serve(self, policy: ServingPolicy) -> str:
        """A model is served by another policy."""
        key, now_us = f"serving/{policy.model}", self.world.now_us
        command = MemoryCommand(
            f"{key}/{self.world.number()}", "cli", "SetServingPolicy", key, -1, to_json(policy), "", (), now_us
        )
        self.world.append("memory.commands", 0, key.encode(), self.world.codec.encode("memory.commands", command))
        return f"serves {policy.model}{' hedged' if policy.hedge else ''}"

    def cache(self, name: str, *, enabled: bool, later: bool) -> str:
        """A model's answers are cached or no more, in a later epoch or in the same one."""
        epoch = self.epochs[name] = self.epochs.get(name, 0) + later
        body, key = to_json(CachePolicy(name, enabled, epoch, 100_000)), f"cache/{name}"
        command = MemoryCommand(
            f"cache/{self.world.number()}", "cli", "SetCachePolicy", key, -1, body, "", (), self.world.now_us
        )
        self.world.append("memory.commands", 0, key.encode(), self.world.codec.encode("memory.commands", command))
        return f"{'caches' if enabled else 'does not cache'} {name} in epoch {epoch}"

    def constrain(self, name: str, maximum: int) -> str:
        """A new upper limit of a model's batches."""
        expression = to_json(Constraint("max_batch_size", maximum))
        signal = ContextSignal(f"limit-{name}", KIND, f"model/{name}", expression, "rules file", self.world.now_us)
        self.world.append("control.context", 0, name.encode(), self.world.codec.encode("control.context", signal))
        return f"limits batches of {name} to {maximum}"

    def alert(self, number: int, *, resolved: bool) -> str:
        """An alert is raised or resolved."""
        alert = Alert(f"al{number}", "silent", "edge-0", "critical", "", "", resolved, self.world.now_us, ())
        self.world.append(
            "control.alerts", 0, alert.alert_id.encode(), self.world.codec.encode("control.alerts", alert)
        )
        return f"alert {alert.alert_id} {'resolved' if resolved else 'raised'}"
