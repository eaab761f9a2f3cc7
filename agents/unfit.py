"""Versions that failed a check which has nothing to do with load: no plan lets them stand in for another. Pure.

The outcome of a check counts until the next of the same check and version; one that was not run says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.check import GOLDEN_SET, INTEGRITY
from schemas.review import Validation

TELLING: Final = (GOLDEN_SET, INTEGRITY)

Unfit = Mapping[str, tuple[str, ...]]
"""Checks that failed last, by ``model/version``; versions without one are not in it."""


def note(unfit: Unfit, validation: Validation) -> Unfit:
    """Take an outcome in; the same object where it changes nothing."""
    if validation.check not in TELLING or validation.outcome not in ("passed", "failed"):
        return unfit
    key = f"{validation.model}/{validation.version}"
    before = unfit.get(key, ())
    others = tuple(check for check in before if check != validation.check)
    after = tuple(sorted((*others, validation.check))) if validation.outcome == "failed" else others
    if after == before:
        return unfit
    return {**{name: checks for name, checks in unfit.items() if name != key}, **({key: after} if after else {})}


def is_unfit(unfit: Unfit, model: str, version: str) -> bool:
    """Whether a version failed such a check last."""
    return f"{model}/{version}" in unfit
