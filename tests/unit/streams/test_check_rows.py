"""Rows of checks told from clients' rows, by the tenant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streams.check_id import TENANT
from streams.check_rows import checked_models, client_parts, client_rows, has_checks, picked
from streams.columns import Columns, take
from tests.support.frames import frame, row

ROWS = [
    row(1), row(2, tenant=TENANT, items=2), row(3, tenant="acme"), row(4, model="other", tenant=TENANT),
    row(5, model="third"),
]  # fmt: skip


def test_a_frame_without_checks_is_looked_at_no_further() -> None:
    made = frame([row(1), row(2, tenant="isos-validations")])
    assert not has_checks(made)
    assert client_rows(made) is None


def test_rows_of_checks_are_told_apart_whatever_segment_they_stand_in() -> None:
    made = frame(ROWS)
    mine = client_rows(made)
    assert has_checks(made)
    assert mine is not None
    offsets = Columns.of(made).offsets
    assert {int(offset): bool(each) for offset, each in zip(offsets, mine, strict=True)} == (
        {1: True, 2: False, 3: True, 4: False, 5: True}
    )
    assert client_parts(made, mine) == (("digits", "", 2), ("third", "", 1))
    assert checked_models(made, mine) == {"digits", "other"}
    assert np.frombuffer(picked(made.row_items, "<u2", mine), "<u2").tolist() == [1, 1, 1]


def test_a_frame_that_only_names_the_tenant_is_all_clients() -> None:
    made = frame(ROWS)
    mine = client_rows(made)
    assert mine is not None
    assert client_rows(take(made, np.flatnonzero(mine))) is None


def test_a_tenant_that_is_named_twice_is_found_twice() -> None:
    made = frame([row(1, tenant=TENANT), row(2, tenant="b"), row(3, tenant="c")])
    mine = client_rows(replace(made, tenants=(TENANT, "b", TENANT)))
    assert mine is not None
    assert mine.tolist() == [False, True, False]
