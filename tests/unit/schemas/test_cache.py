"""What memory holds of a model's cache."""

from __future__ import annotations

from schemas.cache import CachePolicy
from streams.canonical import from_json, to_json


def test_a_policy_comes_back_from_memory() -> None:
    policy = CachePolicy("digits", True, 3, 600)
    assert to_json(policy) == '{"enabled":true,"epoch":3,"model":"digits","ttl_s":600}'
    assert from_json(CachePolicy, to_json(policy)) == policy
