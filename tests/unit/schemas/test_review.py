"""The records of schemas.review and their schema files are the same contract."""

from __future__ import annotations

import pytest

from schemas import review
from tests.support.schema_mirror import assert_mirrors, records_of


@pytest.mark.parametrize("cls", records_of(review))
def test_mirrors_its_schema(cls: type) -> None:
    assert_mirrors(cls)
