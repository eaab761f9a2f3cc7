"""Commands that change memory end with a sentence and an exit code where nobody answers."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from infra.commands.controlled import answered, controlled
from infra.settings import Settings
from streams.watch import WatchTimeoutError


class Control:
    """A connection that notes that it was closed."""

    is_open = False

    def __init__(self, _connection: Any, signatory: Any, audit: Any) -> None:
        Control.is_open = signatory.user != "" and audit.actor.user != ""

    async def __aenter__(self) -> Control:
        return self

    async def __aexit__(self, *_: object) -> None:
        Control.is_open = False


def run(work: Any) -> Any:
    kind: Any = Control
    return controlled(Settings(), kind, work)


def test_what_is_done_with_the_connection_is_given_and_the_connection_closed() -> None:
    async def work(control: Control) -> str:
        assert control.is_open
        return "done"

    assert run(work) == "done"
    assert not Control.is_open


def test_no_answer_in_time_is_exit_code_5_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(_: Control) -> None:
        raise WatchTimeoutError("The Orchestrator's answer about flag/x", 30.0)

    with pytest.raises(typer.Exit) as ended:
        run(work)
    assert ended.value.exit_code == 5
    assert "`isos status` shows which process is missing" in capsys.readouterr().err
    assert not Control.is_open


def test_an_error_of_another_kind_passes() -> None:
    with pytest.raises(ZeroDivisionError), answered():
        raise ZeroDivisionError
