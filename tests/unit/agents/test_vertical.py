"""Larger batches before another replica, where they carry more and stay within the SLO; and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.load_picture import Load, Picture, PictureParams, Planned
from agents.vertical import after_answer, cheaper, is_calm, lowered, raised, without_variants
from schemas.canary import Canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.scaling import BatchBound, ScalingPolicy
from streams.canonical import from_json

PARAMS = PictureParams(first_slow=4)
POLICY = ScalingPolicy("executors", 1, 4, vertical=("batch",))
HERE = RecordCoordinate("control.load", 0, 7)
PICTURE = Picture(
    loads={"digits/router-0": Load(100.0, 100.0, 0, 1, told=HERE), "other/router-0": Load(1.0, 1.0, 0, 1)},
    times={"digits/v1.0.0": (40_000.0, 2_000.0), "other/v1.0.0": (1_000.0, 1_000.0)},
    plans={
        "digits": Planned({"v1.0.0": 100}, 128, is_slow=False, latency_us=1_000_000),
        "other": Planned({"v1.0.0": 100}, 128, is_slow=False),
    },
    caps={"digits/v1.0.0": 20, "other/v1.0.0": 8},
)


def bound(picture: Picture = PICTURE, policy: ScalingPolicy = POLICY, *, slow: bool = False) -> int:
    step = raised(picture, policy, PARAMS, slow=slow)
    return 0 if step is None else step.amount


def planned(**changes: int | bool) -> Picture:
    return replace(PICTURE, plans={**PICTURE.plans, "digits": replace(PICTURE.plans["digits"], **changes)})  # type: ignore[arg-type]


def test_the_busiest_model_gets_larger_batches_up_to_its_limit() -> None:
    step = raised(PICTURE, POLICY, PARAMS, slow=False)
    assert step is not None
    assert (step.model, step.amount, step.causes) == ("digits", 128, (HERE,))
    assert step.why == (
        "Batches of digits up to 128 items instead of 20 carry 73 % more and take 296 ms, before another replica."
    )
    command = step.command(9)
    assert isinstance(command, MemoryCommand)
    assert (command.agent, command.kind, command.key) == ("scaler", "BoundBatches", "vertical/digits")
    assert from_json(BatchBound, command.body) == BatchBound("digits", 128)


@pytest.mark.parametrize(
    ("picture", "policy", "expected"),
    [
        (planned(latency_us=500_000), POLICY, 80),  # two of 160 would take 720 ms
        (planned(latency_us=100_000), POLICY, 0),
        (planned(latency_us=0), POLICY, 0),  # nothing is promised, so nobody knows what is too long
        (planned(max_batch_size=30), POLICY, 30),
        (planned(max_batch_size=20), POLICY, 0),
        (planned(is_slow=True), POLICY, 0),  # the other pool's
        (PICTURE, replace(POLICY, vertical=()), 0),
        (PICTURE, replace(POLICY, vertical_gain_percent=80), 0),
        (replace(PICTURE, raised={"digits": 128}), POLICY, 0),  # it was asked for, whatever executors make of it
        (replace(PICTURE, raised={"digits": 64}), POLICY, 128),
        (replace(PICTURE, caps={}), POLICY, 0),  # no executor said how large its batches are
        (replace(PICTURE, times={}), POLICY, 0),
        (replace(PICTURE, loads={}), POLICY, 0),
    ],
)
def test_only_what_is_known_to_be_worth_it_is_proposed(picture: Picture, policy: ScalingPolicy, expected: int) -> None:
    assert bound(picture, policy) == expected


def test_a_slow_model_is_the_slow_pools() -> None:
    assert bound(planned(is_slow=True), slow=True) == 128


@given(
    st.floats(0, 1e6), st.floats(1, 1e5), st.integers(1, 256), st.integers(1, 128), st.integers(1, 10_000_000),
    st.integers(1, 100),
)  # fmt: skip
def test_no_bound_is_lower_or_too_long_or_carries_too_little(
    fixed_us: float, per_item_us: float, most: int, cap: int, latency_us: int, gain: int
) -> None:
    picture = replace(planned(max_batch_size=most, latency_us=latency_us), caps={"digits/v1.0.0": cap})
    picture = replace(picture, times={"digits/v1.0.0": (fixed_us, per_item_us)})
    found = bound(picture, replace(POLICY, vertical_gain_percent=gain))
    if found:
        assert cap < found <= most
        assert 2 * (fixed_us + per_item_us * found) <= latency_us
        assert (fixed_us / cap + per_item_us) >= (fixed_us / found + per_item_us) * (1 + gain / 100) * 0.999


def test_it_goes_back_when_the_load_is_gone_or_the_policy_wants_none() -> None:
    standing = replace(PICTURE, raised={"digits": 128, "other": 16})
    assert lowered(PICTURE, POLICY, PARAMS, slow=False, calm=True) is None
    assert lowered(standing, POLICY, PARAMS, slow=False, calm=False) is None
    assert lowered(standing, POLICY, PARAMS, slow=True, calm=True) is None
    for policy, calm in ((POLICY, True), (replace(POLICY, vertical=()), False)):
        step = lowered(standing, policy, PARAMS, slow=False, calm=calm)
        assert step is not None
        assert (step.model, step.amount) == ("digits", 0)
    assert is_calm(0.3, POLICY, 1)
    assert not is_calm(0.31, POLICY, 1)
    assert not is_calm(0.1, POLICY, 2), "replicas go first"


VARIED = replace(PICTURE, variants={"digits/v1.0.0": "v1.1.0"})
ANY = replace(POLICY, vertical=("batch", "variant"))


def test_where_no_more_replicas_are_allowed_the_declared_variant_serves() -> None:
    step = cheaper(VARIED, ANY, PARAMS, slow=False)
    assert step is not None
    command = step.command(9)
    assert (command.kind, command.key, command.causes) == ("SetCanary", "canary/digits", (HERE,))
    assert from_json(Canary, command.body) == Canary("digits", "v1.1.0", 99)
    assert command.reason == "digits v1.1.0, a variant of v1.0.0, serves: more replicas are needed than are allowed."


@pytest.mark.parametrize(
    ("picture", "policy", "slow"),
    [
        (PICTURE, ANY, False),  # none is declared, and none is guessed
        (VARIED, POLICY, False),
        (VARIED, ANY, True),
        (replace(VARIED, in_use={"digits": "v1.1.0"}), ANY, False),
        (replace(VARIED, loads={}), ANY, False),
        (replace(VARIED, variants={"digits/v0.9.0": "v1.1.0"}), ANY, False),  # of another version
        (
            replace(VARIED, plans={"digits": Planned({"v1.0.0": 80, "v1.2.0": 20}, 128, is_slow=False)}), ANY, False,
        ),  # somebody tries another version
    ],
)  # fmt: skip
def test_no_other_version_is_put_in_its_place(picture: Picture, policy: ScalingPolicy, *, slow: bool) -> None:
    assert cheaper(picture, policy, PARAMS, slow=slow) is None


def test_the_variant_goes_first_when_the_load_is_gone() -> None:
    standing = replace(VARIED, raised={"digits": 128}, in_use={"digits": "v1.1.0"})
    step = lowered(standing, ANY, PARAMS, slow=False, calm=True)
    assert step is not None
    assert from_json(Canary, step.command(9).body) == Canary("digits", "v1.1.0", 0)
    assert not step.is_up
    unwanted = lowered(standing, POLICY, PARAMS, slow=False, calm=False)
    assert unwanted is not None
    assert unwanted.variant == "v1.1.0"
    assert lowered(standing, ANY, PARAMS, slow=False, calm=False) is None


def test_what_is_light_with_a_variant_counts_as_it_would_without_it() -> None:
    plans = {**PICTURE.plans, "digits": replace(PICTURE.plans["digits"], shares={"v1.0.0": 1, "v1.1.0": 99})}
    times = {**PICTURE.times, "digits/v1.1.0": (400.0, 20.0)}
    using = replace(VARIED, plans=plans, times=times, in_use={"digits": "v1.1.0"})
    found = without_variants(0.01, using, PARAMS, slow=False)
    assert found == pytest.approx(100 * (40_000 / 128 + 2_000 + 12) / 1e6, rel=0.02)
    assert without_variants(0.01, VARIED, PARAMS, slow=False) == 0.01
    assert without_variants(0.01, using, PARAMS, slow=True) == 0.01
    assert without_variants(0.01, replace(using, times={}), PARAMS, slow=False) == 0.01


def changed(key: str, agent: str = "cli", kind: str = "Noted", command: str = "c1") -> MemoryEvent:
    return MemoryEvent(1, bytes(32), command, agent, kind, key, 1, None, "", (), 1)


@pytest.mark.parametrize("kind", ["CommandRejected", "ReviewOpened"])
def test_a_step_of_ours_without_effect_is_noted_once_and_not_asked_for(kind: str) -> None:
    picture = VARIED
    for command in ("vertical/digits/9", "canary/digits/10", "vertical/digits/11"):
        picture = after_answer(picture, changed("somewhere", "scaler", kind, command))
    assert picture.refused == ("canary/digits", "vertical/digits")
    assert raised(picture, ANY, PARAMS, slow=False) is None
    assert cheaper(picture, ANY, PARAMS, slow=False) is None
    for other in (changed("rejections/x", "cli", kind, "canary/digits/9"), changed("canary/other", "scaler")):
        assert after_answer(VARIED, other) is VARIED


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("environment", ()),
        ("scaling/executors", ()),
        ("model/digits/v1.2.0", ()),
        ("plan/digits", ("canary/digits",)),
        ("vertical/digits", ("canary/digits",)),
        ("active/digits", ("vertical/digits",)),
        ("canary/digits", ("vertical/digits",)),
        ("breaker/digits/v1.1.0", ("vertical/digits",)),
        ("breaker/digits2/v1.1.0", ("canary/digits", "vertical/digits")),
        ("plan/digits2", ("canary/digits", "vertical/digits")),
        ("rejections/canary/digits/9", ("canary/digits", "vertical/digits")),
    ],
)
def test_it_is_asked_for_again_when_what_may_change_the_answer_changes(key: str, left: tuple[str, ...]) -> None:
    refused = replace(VARIED, refused=("canary/digits", "vertical/digits"))
    assert after_answer(refused, changed(key)).refused == left
