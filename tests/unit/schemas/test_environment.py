"""What memory holds of the environment, of signers and of open reviews."""

from __future__ import annotations

from schemas.environment import Environment, OpenReview, Signer
from streams.canonical import from_json, to_json
from tests.support.samples import SAMPLES


def test_bodies_come_back_from_memory() -> None:
    review = OpenReview(SAMPLES["ReviewRequest"], SAMPLES["MemoryCommand"])
    for body in (Environment(), Environment("production", (), False, 60), Signer("ann", "ab" * 32), review):
        assert from_json(type(body), to_json(body)) == body


def test_a_signer_holds_until_it_is_revoked() -> None:
    assert to_json(Signer("ann", "ab")) == '{"kind":"person","name":"ann","public_key":"ab","revoked_us":0}'


def test_only_a_sandbox_is_one() -> None:
    names = ("sandbox", "staging", "production")
    assert [Environment(name).is_sandbox for name in names] == [True, False, False]
