"""A broken invariant."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818
    """``invariant`` names the rule; ``what`` says what broke it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(invariant, what)
        self.invariant = invariant
        self.what = what

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"
