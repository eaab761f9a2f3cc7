"""Progress is silent where nobody watches."""

from __future__ import annotations

import pytest

from infra.commands.progress import shown_progress


def test_nothing_is_written_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as progress:
        progress("reading", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with shown_progress() as progress:
        progress("reading dead letters", 1, 2)
        progress("reading dead letters", 2, 2)
    assert "reading dead letters" in capsys.readouterr().err
