"""The record of shadows' copies mirrors its schema file."""

from __future__ import annotations

from schemas.shadow import AGREEMENTS, AGREES, DIFFERS, DIGEST_BYTES, EQUAL, NO_DIGEST, UNKNOWN, ShadowComparison
from tests.support.schema_mirror import assert_mirrors


def test_mirrors_its_schema() -> None:
    assert_mirrors(ShadowComparison)


def test_agreements_have_names_by_their_number() -> None:
    named = [AGREEMENTS[number] for number in (UNKNOWN, EQUAL, AGREES, DIFFERS)]
    assert named == ["unknown", "equal", "agrees", "differs"]
    assert len(NO_DIGEST) == DIGEST_BYTES
