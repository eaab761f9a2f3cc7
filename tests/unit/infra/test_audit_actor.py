"""Who a command line acts for, what of it is kept, and operations that are left to the spool."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import pytest
import typer

from infra.audit_actor import actor_of, audited_here, begun, command_line, ends_by
from infra.audit_spool import spooled
from infra.settings import Settings, StartError, load_settings
from streams.audit_operation import Facts


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path, change_ticket="CHG-9")


def test_arguments_that_are_no_text_are_left_to_the_spool_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["isos", "up", "--set", "user=\udcff"])
    with audited_here(settings, "stack.up"):
        pass
    assert [each.record.command for each in spooled(settings)] == ["isos up --set 'user=?'"] * 2


def test_a_person_is_the_setting_or_the_account(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["isos", "models", "activate", "digits", "v2.0.0"])
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    actor = actor_of(settings)
    assert (actor.user, actor.source, actor.change_ticket) == ("alice", "cli", "CHG-9")
    assert actor.command == "isos models activate digits v2.0.0"
    named = load_settings(data_dir=settings.data_dir, user="bob", environment="production")
    assert (actor_of(named).user, actor_of(named).environment) == ("bob", "production")
    assert actor_of(named, "control-0").command == ""

    def nobody() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert actor_of(settings).user == "unknown"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["up"], "isos up"),
        (["--set", "redis_url=redis://user:pw@host:1/0", "up"], "isos --set 'redis_url=redis://***@host:1/0' up"),
        (["--set", "alert_webhook_url=https://host/secret"], "isos --set 'alert_webhook_url=***'"),
        (["reviews", "reject", "r1", "--reason", "not yet"], "isos reviews reject r1 --reason 'not yet'"),
    ],
)
def test_a_command_line_without_its_secrets(typed: list[str], kept: str) -> None:
    assert command_line(typed) == kept


def test_an_operation_here_waits_in_the_spool(settings: Settings) -> None:
    with audited_here(settings, "stack.restart", Facts(resources=("router",))) as operation:
        operation.affected("router-0")
    before, after = [each.record for each in spooled(settings)]
    assert (before.phase, before.outcome, before.resources) == ("before", "pending", ("router",))
    assert (after.phase, after.outcome, after.resources_affected) == ("after", "done", ("router-0",))
    with pytest.raises(StartError), audited_here(settings, "stack.up"):
        raise StartError("A port is taken.")
    assert [each.record.error_detail for each in spooled(settings)][-1] == "A port is taken."


def test_a_folder_that_cannot_be_written_is_not_the_audits_business(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with audited_here(load_settings(data_dir=tmp_path / "file"), "stack.up"):
        pass


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (typer.Exit(0), "done"),
        (typer.Exit(1), "failed"),
        (typer.Exit(3), "refused"),
        (typer.Exit(4), "refused"),
        (typer.Exit(5), "unknown"),
        (typer.Exit(7), "failed"),
        (StartError("x", exit_code=4), "refused"),
        (KeyboardInterrupt(), "unknown"),
    ],
)
def test_how_a_command_left_is_its_outcome(settings: Settings, error: BaseException, outcome: str) -> None:
    operation = begun(actor_of(settings), "x")
    ends_by(operation, error)
    assert operation.outcome == outcome
