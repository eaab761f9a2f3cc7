"""Approvals on a real broker, with the Orchestrator and the Reviewer as processes, and people by the command line.

One environment for the module: it begins as a sandbox and becomes production with Ann and Bob, whose every vote counts
but on what they asked for themselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.child_environment import child_environment
from infra.log_reader import LogReader
from infra.memory_control import ChangeRefusedError
from infra.review_control import ReviewControl, signed_vote
from infra.review_keys import make_key
from infra.serving_control import ServingControl
from infra.settings import load_settings
from infra.signatory import ReviewWaitsError, Signatory
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand
from schemas.review import ReviewDecision
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection
from streams.memory_view import active_version, plan, rejection
from streams.registry.schema_log import read_schema_ids
from streams.review_view import environment, open_reviews, review_decision, signers
from streams.watch import MemoryWatch
from tests.integration.test_control_plane import Plane, model, register
from tests.support.broker import Servers, start_servers, unique

pytestmark = pytest.mark.timeout(180)

PATIENCE_S = 40.0
REVIEW_S = 120
PRODUCTION = Environment("production", development_policy=False, review_s=REVIEW_S)
PEOPLE = ("ann", "bob", "eve")


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """A broker of this module's own: the agents write to topics with fixed names."""
    with start_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A key file of each person; Eve's is registered nowhere."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: folder / f"{name}.pem" for name in PEOPLE}


@pytest.fixture(scope="module")
def running(own_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The two processes, started as a stack starts them: provision declares the environment."""
    folder = tmp_path_factory.mktemp("reviews")
    settings = load_settings(data_dir=folder / "data", brokers=own_servers.bootstrap, redis_url=own_servers.redis_url)
    plane = Plane(settings, folder, None, None)  # type: ignore[arg-type]  # each test has its own clients
    plane.launch("provision")
    assert plane.processes.pop("provision").wait(60) == 0, plane.log("provision")
    plane.launch("orchestrator")
    plane.launch("control")
    yield plane
    for process in plane.processes.values():
        process.terminate()
    for role, process in plane.processes.items():
        assert process.wait(20) == 0, f"{role} did not end cleanly: {plane.log(role)}"


@pytest.fixture
async def plane(running: Plane) -> AsyncIterator[Plane]:
    """The processes with a client of this test's own."""
    connection = Connection(running.settings.bootstrap)
    codec = Codec(await read_schema_ids(connection))
    memory = MemoryWatch(connection, codec)
    await memory.start()
    yield replace(running, codec=codec, memory=memory)
    await memory.stop()


@pytest.fixture
async def production(plane: Plane, keys: dict[str, Path]) -> Plane:
    """The environment is production, and Ann and Bob may sign."""
    if not keys["eve"].exists():
        make_key(keys["eve"])
    for name in ("ann", "bob"):
        if name not in signers(plane.memory.view):
            isos(plane, "reviews", "keygen", "--name", name, "--key", str(keys[name]))
    if environment(plane.memory.view) == Environment():
        isos(plane, "environment", "set", "production", "--review-deadline-s", str(REVIEW_S))
        await plane.until(lambda v: environment(v) == PRODUCTION, "it is production")
    return plane


def isos(plane: Plane, *arguments: str, code: int = 0) -> Any:
    """Run a command; its document, or what it says where it ends with another exit code."""
    argv = [sys.executable, "-m", "infra.cli", *arguments, "--output", "json"]
    env = child_environment(plane.settings, os.environ)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


async def two_versions(plane: Plane) -> str:
    """A model with v1.0.0, which serves, and v2.0.0."""
    name = unique("reviewed")
    await plane.command(register(model(name)), register(model(name, "v2.0.0")))
    await plane.until(lambda v: plan(v, name) is not None and f"model/{name}/v2.0.0" in v.entries, f"{name} stands")
    return name


def serving(plane: Plane, key: Path, timeout_s: float = PATIENCE_S) -> ServingControl:
    connection = Connection(plane.settings.bootstrap)
    return ServingControl(connection, timeout_s, signatory=Signatory("somebody", key))


async def asked(plane: Plane, name: str, key: Path) -> OpenReview:
    """Ask for v2.0.0 without waiting for the decision."""
    async with serving(plane, key) as control:
        with pytest.raises(ReviewWaitsError) as waiting:
            await control.activate(name, "v2.0.0", wait_for_plan=False)
    review = waiting.value.review
    await plane.until(lambda v: review.request.review_id in open_reviews(v), "the review is open")
    return review


async def logged(plane: Plane, topic: str) -> list[Any]:
    reader = await LogReader.connect(Connection(plane.settings.bootstrap))
    return [each.record for each in await reader.read(topic)]


async def refused(plane: Plane, code: str, before: int) -> str:
    """The next refusal of that code in ``control.escalations``: which agent told it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = [each for each in (await logged(plane, "control.escalations"))[before:] if each.reason.startswith(code)]
        if found:
            return str(found[0].agent)
        assert time.monotonic() < end, f"nobody tells of {code}"
        await asyncio.sleep(0.1)


async def test_a_sandbox_approves_by_itself_and_writes_down_what_it_skipped(plane: Plane) -> None:
    view = await plane.until(lambda v: environment(v) is not None, "the environment stands", 60)
    assert environment(view) == Environment()
    name = await two_versions(plane)
    async with serving(plane, Path("no key is needed")) as control:
        began = time.monotonic()
        await control.activate(name, "v2.0.0", wait_for_plan=False)
        print(f"an activation by the development policy: {(time.monotonic() - began) * 1e3:.0f} ms")
    events = isos(plane, "memory", "history", f"active/{name}")
    assert "approved by development-policy: Skipped in a sandbox" in events[-1]["reason"]
    (row,) = [each for each in isos(plane, "reviews", "list", "--all") if each["subject"].endswith(name)]
    assert (row["state"], row["decided_by"], row["signature"]) == ("approved", "development-policy", "none")


async def test_keys_end_only_by_somebody_registered(production: Plane, keys: dict[str, Path]) -> None:
    """A stranger ends none, a new person waits for an approval, and whoever is registered ends a key at once."""
    plane, secret = production, keys["eve"].parent / "secret"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    cat = keys["eve"].parent / "cat.pem"
    lock = ("--key", str(cat), "--passphrase-file", str(secret))
    registering = asyncio.create_task(asyncio.to_thread(isos, plane, "reviews", "keygen", "--name", "cat", *lock))
    view = await plane.until(lambda v: bool(open_reviews(v)), "Cat's key waits")
    (review_id,) = open_reviews(view)
    approve = ("reviews", "approve", review_id, "--reason", "I know Cat", "--key", str(keys["ann"]))
    await asyncio.to_thread(isos, plane, *approve)
    assert (await asyncio.wait_for(registering, PATIENCE_S))["name"] == "cat"
    said = await asyncio.to_thread(isos, plane, "reviews", "revoke", "cat", "--key", str(keys["eve"]), code=4)
    assert "unknown_signer: Nobody is registered with this key" in said
    await plane.publish("memory.commands", b"x", revocation(signers(plane.memory.view)["cat"]))
    view = await plane.until(lambda v: rejection(v, "by-nobody") is not None, "what nobody signed is refused")
    refused_ = rejection(view, "by-nobody")
    assert (refused_ is not None and refused_.code, signers(view)["cat"].revoked_us) == ("unsigned_command", 0)
    await asyncio.to_thread(isos, plane, "reviews", "revoke", "cat", *lock)
    (*_, ended) = await asyncio.to_thread(isos, plane, "memory", "history", "signer/cat")
    assert (ended["kind"], ended["reason"]) == ("SignerRevoked", "cat may sign no more; signed by cat")


async def test_another_person_approves(production: Plane, keys: dict[str, Path]) -> None:
    plane, name = production, await two_versions(production)
    async with serving(plane, keys["ann"]) as control:
        activating = asyncio.create_task(control.activate(name, "v2.0.0"))
        view = await plane.until(lambda v: bool(open_reviews(v)), "a review is open")
        (review_id,) = open_reviews(view)
        shown = await asyncio.to_thread(isos, plane, "reviews", "show", review_id)
        (change,) = shown["evidence"]["changes"]
        assert (change["from"]["version"], change["to"]["version"]) == ("v1.0.0", "v2.0.0")
        assert (shown["author"], shown["state"], active_version(view, name)) == ("ann", "waiting", "v1.0.0")
        approve = ("reviews", "approve", review_id, "--reason", "looks right", "--key", str(keys["bob"]))
        done = await asyncio.to_thread(isos, plane, *approve)
        assert (done["decision"], done["signer"], done["refused"]) == ("approved", "bob", None)
        await asyncio.wait_for(activating, PATIENCE_S)
        assert active_version(control.view, name) == "v2.0.0"
    said = await asyncio.to_thread(isos, plane, *approve, code=4)
    assert "approval_used: " in said
    shown = await asyncio.to_thread(isos, plane, "reviews", "show", review_id)
    assert (shown["state"], shown["decided_by"], shown["signature"]) == ("approved", "bob", "valid")


async def test_a_rejection_and_a_self_approval(production: Plane, keys: dict[str, Path]) -> None:
    plane, name = production, await two_versions(production)
    review = await asked(plane, name, keys["ann"])
    review_id = review.request.review_id
    connection = Connection(plane.settings.bootstrap)
    async with ReviewControl(connection, PATIENCE_S) as control:
        with pytest.raises(ChangeRefusedError, match="self_approval: ann asked for it"):
            await control.vote(review_id, "approved", "mine", key_bytes(keys["ann"]))
        with pytest.raises(ChangeRefusedError, match="unknown_signer"):
            await control.vote(review_id, "approved", "mine", key_bytes(keys["eve"]))
        done = await control.vote(review_id, "rejected", "not now", key_bytes(keys["bob"]))
        assert (done.vote.signer, done.refusal) == ("bob", "")
    async with serving(plane, keys["ann"]) as control_:
        assert active_version(control_.view, name) == "v1.0.0"
        with pytest.raises(ReviewWaitsError):  # asking again is another review
            await control_.activate(name, "v2.0.0", wait_for_plan=False)


async def test_forged_and_replayed_approvals_change_nothing(production: Plane, keys: dict[str, Path]) -> None:
    plane, name = production, await two_versions(production)
    review = await asked(plane, name, keys["ann"])
    request = review.request
    eve, bob = key_bytes(keys["eve"]), key_bytes(keys["bob"])
    before = len(await logged(plane, "control.escalations"))
    forged = signed_vote(review, "approved", "forged", "bob", eve, 1)
    await plane.publish("control.review-votes", b"x", forged)
    assert await refused(plane, "bad_signature", before) == "reviewer"
    before = len(await logged(plane, "control.escalations"))
    by_nobody = ReviewDecision(
        request.review_id, "approved", "development-policy", "trust me", request.subject_digest, 1
    )
    await plane.publish("control.review-decisions", b"x", by_nobody)
    assert await refused(plane, "bad_signature", before) == "orchestrator"
    early = replace(by_nobody, decision="expired", decided_by="reviewer")
    await plane.publish("control.review-decisions", b"x", early)
    assert await refused(plane, "not_expired", before) == "orchestrator"
    assert active_version(plane.memory.view, name) == "v1.0.0"

    good = signed_vote(review, "approved", "looks right", "bob", bob, 1)
    await plane.publish("control.review-votes", b"x", good)
    await plane.until(lambda v: active_version(v, name) == "v2.0.0", "Bob's approval holds")
    view = await plane.until(lambda v: request.review_id not in open_reviews(v), "the review is closed")
    decision = review_decision(view, request.review_id)
    assert decision is not None
    before = len(await logged(plane, "control.escalations"))
    await plane.publish("control.review-votes", b"x", good)
    assert await refused(plane, "approval_used", before) == "reviewer"
    before = len(await logged(plane, "control.escalations"))
    await plane.publish("control.review-decisions", b"x", decision)
    assert await refused(plane, "approval_used", before) == "orchestrator"
    history = await asyncio.to_thread(isos, plane, "memory", "history", f"active/{name}")
    assert [each["kind"] for each in history] == ["VersionActivated", "VersionActivated"]


async def test_what_nobody_decides_is_refused_and_so_is_an_approval_too_late(
    production: Plane, keys: dict[str, Path]
) -> None:
    plane, name = production, await two_versions(production)
    connection = Connection(plane.settings.bootstrap)
    wanted = replace(PRODUCTION, review_s=2)
    async with ReviewControl(connection, PATIENCE_S, signatory=Signatory("somebody", keys["bob"])) as control:
        changing = asyncio.create_task(control.set_environment(wanted))
        view = await plane.until(
            lambda v: any(each.command.kind == "SetEnvironment" for each in open_reviews(v).values()), "it waits"
        )
        assert environment(view) == PRODUCTION
        (waiting,) = [key for key, each in open_reviews(view).items() if each.command.kind == "SetEnvironment"]
        async with ReviewControl(connection, PATIENCE_S) as other:
            await other.vote(waiting, "approved", "for the test", key_bytes(keys["ann"]))
        assert await asyncio.wait_for(changing, PATIENCE_S) == wanted
    async with serving(plane, keys["ann"]) as control_:
        with pytest.raises(ChangeRefusedError, match="review_expired: .* Nobody decided before the deadline"):
            await control_.activate(name, "v2.0.0")
        assert active_version(control_.view, name) == "v1.0.0"


def revocation(standing: Signer) -> MemoryCommand:
    """A revocation that nobody signed."""
    body = to_json(replace(standing, revoked_us=1))
    key = f"signer/{standing.name}"
    return MemoryCommand("by-nobody", "cli", "RevokeSigner", key, -1, body, "mine now", (), 1, author="ann")


def key_bytes(path: Path) -> bytes:
    from infra.review_keys import read_key

    return read_key(path)
