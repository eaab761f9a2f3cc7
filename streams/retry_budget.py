"""How many rows may be tried again: a tenth of what a model is given, so that failures do not multiply the load.

A bucket of tokens per name, as a plain mapping: a row that is tried for the first time adds ``SHARE``, a retry costs 1,
and a bucket holds at most ``FULL``. A name that is not in the mapping has a full bucket, so that what never fails costs
nothing. Over any stretch retries are at most ``FULL`` and a tenth of the stretch's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SHARE: Final = 0.1
"""Retries per row that is tried for the first time."""
FULL: Final = 100.0
"""Most tokens of a bucket: retries at once, in rows."""

Tokens = Mapping[str, float]
NO_RETRIES: Final[Tokens] = {}
"""All buckets full."""


def earned(tokens: Tokens, name: str, num_rows: int) -> Tokens:
    """The buckets after ``num_rows`` of ``name`` were tried for the first time."""
    held = tokens.get(name)
    if held is None:
        return tokens
    filled = held + SHARE * num_rows
    if filled >= FULL:
        return {each: value for each, value in tokens.items() if each != name}
    return {**tokens, name: filled}


def spent(tokens: Tokens, name: str, num_rows: int) -> tuple[Tokens, int]:
    """The buckets after as many retries of ``num_rows`` as the name's has tokens for, and how many these are."""
    held = tokens.get(name, FULL)
    granted = min(num_rows, int(held))
    return ({**tokens, name: held - granted}, granted) if granted else (tokens, 0)
