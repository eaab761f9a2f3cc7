"""A broken invariant."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818
    """``invariant`` names the rule; ``what`` says what broke it; ``about``: words of the story that concern it."""

    def __init__(self, invariant: str, what: str, about: tuple[str, ...] = ()) -> None:
        super().__init__(invariant, what)
        self.invariant = invariant
        self.what = what
        self.about = about

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"
