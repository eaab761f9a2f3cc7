"""The pages made from the code are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import docs
from streams.errors import CODES


def test_the_committed_page_is_what_the_code_says() -> None:
    assert docs.ERRORS_PAGE.read_text(encoding="utf-8") == docs.errors_page()


def test_every_code_has_its_row() -> None:
    page = docs.errors_page()
    for name in CODES:
        assert page.count(f"| `{name}` |") == 1


def test_check_names_a_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "errors.md"
    monkeypatch.setattr(docs, "ERRORS_PAGE", page)
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    page.write_text("old")
    assert docs.main(["--check"]) == 1
