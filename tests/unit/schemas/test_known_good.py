"""Known-good versions and roll-backs as values."""

from __future__ import annotations

import pytest

from schemas.cache import CachePolicy
from schemas.known_good import Check, Configuration, GoodVersion, KnownGood, Rollback
from schemas.serving import ServingPolicy, Slo
from streams.canonical import from_json, to_json

GOOD = KnownGood("digits", (GoodVersion("v2.0.0", "ab" * 32, 1, 2, 300), GoodVersion("v1.0.0", "", 0, 1, 200)))


def test_a_version_is_known_as_good_or_not() -> None:
    assert [GOOD.has(version) for version in ("v1.0.0", "v2.0.0", "v3.0.0")] == [True, True, False]


def test_both_come_back_from_memory_as_they_were() -> None:
    rollback = Rollback("r", "digits", "v3.0.0", "v2.0.0", "al", "why", 5, checks=(Check("serving", True, "yes"),))
    assert from_json(KnownGood, to_json(GOOD)) == GOOD
    assert from_json(Rollback, to_json(rollback)) == rollback


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (Configuration(), Configuration(ServingPolicy("digits"), CachePolicy("digits", False, 4, 60)), ()),
        (Configuration(), Configuration(ServingPolicy("digits", slo=Slo(error_ppm=10), auto_rollback=False)), ()),
        (
            Configuration(),
            Configuration(ServingPolicy("digits", max_attempts=1, hedge=True)),
            ("max_attempts", "hedge"),
        ),
        (Configuration(), Configuration(cache=CachePolicy("digits", True, 1, 60)), ("cache",)),
        (
            Configuration(cache=CachePolicy("digits", True, 1, 60)),
            Configuration(cache=CachePolicy("digits", True, 9, 60)),
            (),
        ),
    ],
)
def test_configurations_differ_in_how_rows_are_served(
    one: Configuration, other: Configuration, found: tuple[str, ...]
) -> None:
    assert one.differences(other) == other.differences(one) == found


def test_what_an_earlier_release_noted_has_no_configuration() -> None:
    body = '{"marked_us":2,"num_rows":3,"plan_digest":"","since_us":1,"version":"v1.0.0"}'
    assert from_json(GoodVersion, body) == GoodVersion("v1.0.0", "", 1, 2, 3)
