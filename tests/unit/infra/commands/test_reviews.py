"""`isos reviews` without a broker: what is listed, and what is wrong is said before anybody is asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.reviews as command
from infra.cli import app as isos
from infra.commands.reviews import Found, app, signer_row
from infra.review_control import ReviewControl, VoteOutcome
from infra.review_keys import KeyFileError, make_key, read_key
from schemas.environment import Signer
from streams.memory_view import MemoryView
from tests.support.signers import key_of, signer, vote
from tests.unit.infra.test_review_list import DECISION, OPEN, REQUEST, WAITING


@pytest.fixture
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_read", lambda ctx: Found(MemoryView(), [REQUEST, WAITING], [DECISION], []))


@pytest.mark.usefixtures("_read")
def test_list_and_show() -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["list", "--output", "json"])
    assert [row["review_id"] for row in json.loads(done.stdout)] == ["q2"]
    done = runner.invoke(app, ["list", "--all", "--output", "json"])
    assert [row["review_id"] for row in json.loads(done.stdout)] == ["q1", "q2"]
    done = runner.invoke(app, ["list", "--all"])
    assert "rejected" in done.stdout
    done = runner.invoke(app, ["show", "q1", "--output", "json"])
    assert json.loads(done.stdout)["reason"] == "No."
    head, row = CliRunner().invoke(app, ["show", "q1", "--output", "table"]).stdout.splitlines()
    assert (head.split()[0], head.split()[-1], row.split()[-1]) == ("review_id", "reason", "No.")
    done = runner.invoke(app, ["show", "q9"])
    assert (done.exit_code, "There is no review q9" in done.stderr) == (3, True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "bob.pem"
    make_key(path)
    return path


def controlled(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let the command's work be done by somebody else."""
    monkeypatch.setattr(command, "controlled", lambda settings, kind, work: answer)


def test_a_vote_that_holds_and_one_whose_command_is_refused(monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    outcome = VoteOutcome(OPEN, vote("r7", "ab"), 12)
    controlled(monkeypatch, outcome)
    flags = ["r7", "--reason", "fine", "--key", str(key)]
    done = CliRunner().invoke(app, ["approve", *flags])
    assert done.stdout == "r7 is approved by bob; plan/x is done (memory 12).\n"
    done = CliRunner().invoke(app, ["reject", *flags])
    assert done.stdout == "r7 is rejected by bob; plan/x is dropped (memory 12).\n"
    controlled(monkeypatch, VoteOutcome(OPEN, outcome.vote, 12, "version_mismatch: It has changed."))
    done = CliRunner().invoke(app, ["approve", *flags])
    assert done.stderr == "r7 is approved by bob; version_mismatch: It has changed (memory 12).\n"
    done = CliRunner().invoke(app, ["approve", *flags, "--output", "json"])
    assert (done.exit_code, json.loads(done.stdout)["refused"]) == (4, "version_mismatch: It has changed.")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_vote_has_a_reason(reason: str, key: Path) -> None:
    done = CliRunner().invoke(app, ["approve", "r7", "--reason", reason, "--key", str(key)])
    assert done.exit_code == 2
    assert "say why in 1 to 500 characters" in done.stderr


def test_a_key_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["approve", "r7", "--reason", "fine", "--key", str(tmp_path / "none")])
    assert isinstance(done.exception, KeyFileError)
    assert done.exception.exit_code == 3


def test_keygen_makes_a_key_and_registers_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bytes] = []

    class Control:
        async def register(self, name: str, private_key: bytes) -> Signer:
            asked.append(private_key)
            return signer(name)

    async def work(run: Any) -> Signer:
        found: Signer = await run(Control())
        return found

    def run_here(settings: Any, kind: type, run: Any) -> Signer:
        assert kind is ReviewControl
        return asyncio.run(work(run))

    monkeypatch.setattr(command, "controlled", run_here)
    path = tmp_path / "keys" / "ann.pem"
    for _ in range(2):  # the same again finds the key that is there
        done = CliRunner().invoke(app, ["keygen", "--name", "ann", "--key", str(path), "--output", "json"])
        assert json.loads(done.stdout)["public_key"] == signer("ann").public_key
    assert (len(asked), len(set(asked)), path.exists()) == (2, 1, True)


def test_a_key_with_a_passphrase_is_made_and_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret, path = tmp_path / "secret", tmp_path / "ann.pem"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    controlled(monkeypatch, signer("ann"))
    flags = ["--key", str(path), "--passphrase-file", str(secret)]
    done = CliRunner().invoke(app, ["keygen", "--name", "ann", *flags])
    assert (done.exit_code, "ENCRYPTED" in path.read_text()) == (0, True)
    assert done.stderr == f"Made the key {path} with its passphrase.\n"
    controlled(monkeypatch, VoteOutcome(OPEN, vote("r7", "ab"), 12))
    assert CliRunner().invoke(app, ["approve", "r7", "--reason", "fine", *flags]).exit_code == 0
    secret.write_text("battery staple")
    done = CliRunner().invoke(app, ["approve", "r7", "--reason", "fine", *flags])
    assert isinstance(done.exception, KeyFileError)
    assert str(done.exception) == f"That is not the passphrase of {path}"


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 65, "cli", "orchestrator", "development-policy"])
def test_a_name_that_is_none_makes_no_key(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["keygen", "--name", name, "--key", str(tmp_path / "k.pem")])
    assert (done.exit_code, "is no name of 1 to 64" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_named", [True, False])
def test_a_revocation_is_by_the_key_that_is_named(is_named: bool, monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    asked: list[tuple[str, bytes | None]] = []

    class Control:
        async def revoke(self, name: str, private_key: bytes | None) -> Signer:
            asked.append((name, private_key))
            return signer(name)

    def run_here(settings: Any, kind: type, run: Any) -> Any:
        return asyncio.run(run(Control()))

    monkeypatch.setattr(command, "controlled", run_here)
    done = CliRunner().invoke(app, ["revoke", "ann", *(["--key", str(key)] if is_named else [])])
    assert done.stdout == "ann signs no more. `isos reviews keygen --name ann` registers another key.\n"
    assert asked == [("ann", read_key(key) if is_named else None)]


def test_signers_and_revocation(monkeypatch: pytest.MonkeyPatch) -> None:
    controlled(monkeypatch, [])
    assert "Nobody is registered" in CliRunner().invoke(app, ["signers"]).stderr
    controlled(monkeypatch, [signer("ann")])
    assert "person" in CliRunner().invoke(app, ["signers"]).stdout
    controlled(monkeypatch, Signer("ann", signer("ann").public_key, "person", 1_700_000_000_000_000))
    done = CliRunner().invoke(app, ["revoke", "ann", "--output", "json"])
    assert json.loads(done.stdout)["revoked"] == "2023-11-14T22:13:20Z"
    assert signer_row(signer("ann"))["key_id"] != signer_row(signer("bob"))["key_id"]
    assert key_of("ann") != key_of("bob")


@pytest.mark.parametrize("verb", ["list", "show", "approve", "reject", "keygen", "revoke", "signers"])
def test_every_verb_has_examples(verb: str) -> None:
    assert "Examples:" in CliRunner().invoke(isos, ["reviews", verb, "--help"]).stdout
