"""The records of schemas.audit and their schema files are the same contract."""

from __future__ import annotations

import pytest

from schemas import audit
from tests.support.schema_mirror import assert_mirrors, records_of


@pytest.mark.parametrize("cls", records_of(audit))
def test_mirrors_its_schema(cls: type) -> None:
    assert_mirrors(cls)
