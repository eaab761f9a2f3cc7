"""People where the whole control plane runs: they ask, sign and vote; and one who is not what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from agents.authorship import command_message, vote_message
from schemas.canary import Canary
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import ModelVersion, TensorSpec
from schemas.review import ReviewDecision, ReviewVote
from schemas.scaling import Replicas, ScalingPolicy
from schemas.serving import ServingPolicy, Slo
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, MemoryView
from streams.signing import public_key_of, sign
from tests.sim.breaker_invariants import ask
from tests.sim.canary_rules import some_share
from tests.sim.clients import MODEL_NAMES, WIDTH
from tests.sim.order_invariants import ordered_model
from tests.sim.world import World

KEYS: Final = {name: bytes([number]) * 32 for number, name in enumerate(("alice", "bob", "mallory"), start=1)}
"""Mallory has a key that nobody registered."""
SHARES: Final = {
    "": (5, 10, 15, 3, 12, 40, 12, 3, 1, 12),
    "scaling": (1, 2, 80, 1, 5, 5, 5, 1, 0, 1),
    "reviews": (5, 1, 1, 2, 15, 60, 15, 1, 3, 3),
    "roll-backs": (5, 30, 1, 1, 50, 8, 4, 1, 0, 8),
}
"""Per focus of a world: versions, promises, scaling, environments, activations, votes, repetitions, forgeries, keys,
canaries."""
REVIEW_S: Final = 30
FORGED: Final = "forged"
REPLAYED: Final = ("control.review-votes", "control.review-decisions", "control.validations", "control.alerts")


class People:
    """``forged``: offsets of the records that somebody else wrote to memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.forged: list[int] = []

    def act(self, registered: list[str], view: MemoryView) -> str:
        """Somebody wants, or does, one thing."""
        rng = self.world.rng
        focus = self.world.profile.focus
        model = registered[0] if focus == "roll-backs" else rng.choice(registered)
        acts: tuple[Callable[[], str], ...] = (
            lambda: self.register(model, f"v1.{rng.randint(1, 3)}.0"),
            lambda: self.promise(model),
            self.scale,
            lambda: self.declare(view),
            lambda: self.activate(model, view),
            lambda: self.vote(view) or self.activate(model, view),
            self.repeat,
            lambda: self.forge(model, view),
            lambda: self.revoke(view),
            lambda: self.try_out(model, view),
        )
        return rng.choices(acts, SHARES[focus])[0]()

    def promise(self, model: str) -> str:
        """A model's SLO is set, or taken back; its versions give way by themselves, or not."""
        rng = self.world.rng
        slo = rng.choice((None, Slo(error_ppm=10_000), Slo(latency_ms=100, late_ppm=50_000)))
        if self.world.profile.focus == "roll-backs":
            slo = Slo(error_ppm=10_000)
        policy = ServingPolicy(model, slo=slo, auto_rollback=rng.random() < 0.9, breaker=False)
        if self.world.profile.focus == "roll-backs":  # mostly as it was
            policy = replace(policy, max_attempts=rng.choice((*[2] * 30, 1, 3)))
        return ask(self.world, "cli", "SetServingPolicy", f"serving/{model}", policy)

    def begin(self) -> None:
        """A second version of the first model; in some worlds production from the start, with two people in it."""
        if self.world.profile.control or self.world.profile.canaries:
            self.register("alpha", "v1.1.0")
        if self.world.profile.canaries:
            ask(self.world, "cli", "SetCanary", "canary/alpha", Canary("alpha", "v1.1.0", 20))
        if self.world.profile.production:
            for name in ("alice", "bob"):
                self.enrol(name)
            wanted = Environment("production", development_policy=False, review_s=REVIEW_S)
            ask(self.world, "cli", "SetEnvironment", "environment", wanted)
        if self.world.profile.focus == "scaling":
            ask(self.world, "supervisor", "NoteReplicas", "replicas/executors", Replicas("executors", 2, "begun"))
            self.scale()
        if self.world.profile.focus == "roll-backs":
            self.promise("alpha")

    def put(self, topic: str, key: str, record: Any) -> str:
        """A record of nobody's that has to be believed."""
        value = record if isinstance(record, bytes) else self.world.codec.encode(topic, record)
        self.world.append(topic, 0, key.encode(), value)
        return f"{topic} has {type(record).__name__} of {key}"

    def register(self, model: str, version: str) -> str:
        """A further version of a model that is registered, or is about to be."""
        tensors = (TensorSpec("x", "FP32", (WIDTH,)),), (TensorSpec("y", "FP32", (WIDTH,)),)
        ordered = model == ordered_model(self.world.profile, MODEL_NAMES)
        facts = ModelVersion(model, version, "ab" * 32, 10, *tensors, max_batch_size=8, ordered=ordered)
        return ask(self.world, "cli", "RegisterModel", f"model/{model}/{version}", facts)

    def scale(self) -> str:
        rng = self.world.rng
        policy = ScalingPolicy(
            "executors", rng.choice((0, 1)), rng.choice((1, 2, 4, 4)), upscale_delay_s=1, downscale_delay_s=2,
            cooldown_s=1, idle_s=6,
        )  # fmt: skip
        return ask(self.world, "cli", "SetScalingPolicy", "scaling/executors", policy)

    def declare(self, view: MemoryView) -> str:
        """People are registered first; then the environment becomes what counts, or somebody calls it a sandbox."""
        for name in ("alice", "bob"):
            if f"signer/{name}" not in view.entries:
                return self.enrol(name)
        wanted = Environment(review_s=REVIEW_S)
        if self.world.rng.choice((True, True, False)):
            wanted = replace(wanted, name="production", development_policy=False)
        return ask(self.world, "cli", "SetEnvironment", "environment", wanted)

    def enrol(self, name: str) -> str:
        """A person's key; Alice, who is the first and so believed, signs for the others."""
        key, body = f"signer/{name}", to_json(Signer(name, public_key_of(KEYS[name])))
        return self.send(self.command("RegisterSigner", key, body, "alice"), "alice")

    def revoke(self, view: MemoryView) -> str:
        """A key is to end: mostly one who is nobody registered wants it, in another's name or in none."""
        rng, name = self.world.rng, self.world.rng.choice(("alice", "bob"))
        key = f"signer/{name}"
        if key not in view.entries:
            return self.enrol(name)
        body = to_json(replace(from_json(Signer, view.entries[key].body), revoked_us=max(1, self.world.now_us)))
        author = rng.choice(("", "alice", "bob", "mallory"))
        is_theirs = author in ("alice", "bob") and rng.random() < 0.05
        return self.send(self.command("RevokeSigner", key, body, author), author if is_theirs else "mallory")

    def command(self, kind: str, key: str, body: str, author: str) -> MemoryCommand:
        """What a person says that they want, not signed yet."""
        return MemoryCommand(
            f"{key}/{self.world.number()}", "cli", kind, key, -1, body, "", (), self.world.now_us, author=author
        )

    def send(self, command: MemoryCommand, by: str) -> str:
        """A command, signed with somebody's key."""
        signature = sign(KEYS[by], command_message(command))
        return self.put("memory.commands", command.key, replace(command, signature=signature))

    def activate(self, model: str, view: MemoryView) -> str:
        """Another version is to serve; the author signs, mostly as they say they are."""
        rng, key = self.world.rng, f"active/{model}"
        known = [each.rpartition("/")[2] for each in view.entries if each.startswith(f"model/{model}/")]
        version = rng.choice(known or ["v1.0.0"])
        if self.world.profile.focus == "roll-backs" and rng.random() < 0.8:  # the next one, once this one proved itself
            version = "v1.1.0" if f"good/{model}" in view.entries else "v1.0.0"
        author = rng.choice(("alice", "bob"))
        command = self.command("ActivateVersion", key, to_json(ActiveVersion(model, version)), author)
        return self.send(command, author if rng.random() < 0.8 else "mallory")

    def try_out(self, model: str, view: MemoryView) -> str:
        """A version gets another share of a model's rows."""
        wanted, author = some_share(self.world, view, model), self.world.rng.choice(("alice", "bob"))
        return self.send(self.command("SetCanary", f"canary/{model}", to_json(wanted), author), author)

    def vote(self, view: MemoryView) -> str:
        """Somebody votes on an open review, in their own name or in another's; or says a decision by themselves."""
        rng = self.world.rng
        reviews = [key for key in view.entries if key.startswith("review/")]
        if not reviews:
            return ""
        request = from_json(OpenReview, view.entries[rng.choice(reviews)].body).request
        signer = rng.choice(("alice", "bob", "mallory"))
        decision = "approved" if rng.random() < 0.8 else "rejected"
        time_us = max(self.world.now_us, request.requested_us)
        vote = ReviewVote(request.review_id, decision, signer, "so it is", request.subject_digest, time_us)
        by = signer if rng.random() < 0.9 else "mallory"
        vote = replace(vote, signature=sign(KEYS[by], vote_message(vote)))
        if rng.random() < 0.8:
            return self.put("control.review-votes", vote.review_id, vote)
        said = ReviewDecision(
            vote.review_id, vote.decision, vote.signer, vote.reason, vote.subject_digest, vote.time_us, vote.signature,
            vote.time_us,
        )  # fmt: skip
        return self.put("control.review-decisions", vote.review_id, said)

    def repeat(self) -> str:
        """What stood on a topic stands there once more, as anybody's."""
        topic = self.world.rng.choice(REPLAYED)
        standing = self.world.log.read(topic, 0, 0) if topic in self.world.topics else ()
        if not standing:
            return ""
        record = self.world.rng.choice(standing)
        return self.put(topic, (record.key or b"").decode(), record.value or b"")

    def forge(self, model: str, view: MemoryView) -> str:
        """Somebody else writes to memory, as a producer that no fence refuses; the chain's end they do not know."""
        body = to_json(ActiveVersion(model, "v9.9.9"))
        event = MemoryEvent(
            view.sequence + self.world.rng.randint(0, 2), bytes([1]) * 32, FORGED, "orchestrator", "VersionActivated",
            f"active/{model}", 1, body, "", (), self.world.now_us,
        )  # fmt: skip
        value = self.world.codec.encode("memory.events", event) if self.world.rng.random() < 0.8 else b"rubbish"
        claim = self.world.claims.get(("memory.events", 0), 0)  # "one writer" is not what is tried here
        self.forged.append(self.world.append("memory.events", 0, event.key.encode(), value, claim=claim))
        return f"memory.events@{self.forged[-1]} is forged"
