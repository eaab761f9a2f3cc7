"""Commands carry their author, and their signature where a person is to approve them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.authorship import command_message
from infra.review_keys import KeyFileError, make_key, read_key
from infra.settings import load_settings
from infra.signatory import ReviewWaitsError, Signatory, user_name, waiting_review, waits
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand
from streams.memory_view import MemoryView
from streams.signing import public_key_of, to_pem, verify
from tests.support.samples import SAMPLES
from tests.support.signers import PRODUCTION, activation, key_of, revocation, signer
from tests.unit.streams.test_review_view import view_of

REVIEW = OpenReview(
    replace(SAMPLES["ReviewRequest"], review_id="r9", author="ann", subject="X y", policy="people"), activation()
)


@pytest.fixture
def mine(tmp_path: Path) -> Signatory:
    path = tmp_path / "ann.pem"
    path.write_bytes(to_pem(key_of("ann")))
    path.chmod(0o600)
    return Signatory("a-user", path)


@pytest.mark.parametrize("view", [MemoryView(), view_of(environment=Environment())])
def test_where_nobody_approves_the_key_is_not_even_read(view: MemoryView, tmp_path: Path) -> None:
    made = Signatory("a-user", tmp_path / "none").signed(activation(), view)
    assert made == replace(activation(), author="a-user")
    assert Signatory("a-user", tmp_path / "none").signed(replace(made, author="bob"), view).author == "bob"


def test_what_waits_for_a_person_is_signed_by_the_registered_one(mine: Signatory) -> None:
    view = view_of(environment=PRODUCTION, signer__ann=signer("ann"))
    made = mine.signed(activation(), view)
    assert made.author == "ann"
    assert verify(public_key_of(key_of("ann")), command_message(made), made.signature)
    assert mine.signed(made, view) is made
    assert mine.signed(revocation("ann"), view).author == "ann"
    other = replace(activation(), kind="SetCachePolicy")
    assert mine.signed(other, view) == replace(other, author="a-user")


def test_a_missing_or_unknown_key_is_a_sentence(mine: Signatory, tmp_path: Path) -> None:
    view = view_of(environment=PRODUCTION, signer__bob=signer("bob"))
    with pytest.raises(KeyFileError, match="must be signed in production, and the key .* is nobody's") as refused:
        mine.signed(activation(), view)
    assert refused.value.exit_code == 4
    with pytest.raises(KeyFileError, match="ActivateVersion must be signed in production. There is no key"):
        Signatory("a-user", tmp_path / "none").signed(activation(), view)


def test_the_settings_name_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, path = tmp_path / "secret", tmp_path / "k.pem"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    make_key(path, b"correct horse")
    settings = load_settings(data_dir=tmp_path, review_key_file=str(path), review_passphrase_file=str(secret))
    given = Signatory.of(settings)
    assert (given.path, given.user) == (path, user_name())
    person = Signer("zoe", public_key_of(read_key(path, given.unlock)))
    made = given.signed(activation(), view_of(environment=PRODUCTION, signer__zoe=person))
    assert (made.author, verify(person.public_key, command_message(made), made.signature)) == ("zoe", True)

    def nobody() -> Any:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert user_name() == "unknown"


def test_only_people_are_waited_for() -> None:
    by_policy = OpenReview(replace(REVIEW.request, policy="development"), activation(command_id="a2"))
    view = view_of(review__r9=REVIEW, review__r10=by_policy)
    assert [waiting_review(view, each) for each in ("a1", "a2", "a3")] == [REVIEW, None, None]


def test_the_sentence_says_who_can_help() -> None:
    said = "X y waits for review r9: somebody else than ann runs `isos reviews approve r9 --reason TEXT`"
    assert waits(REVIEW) == said
    late = ReviewWaitsError(REVIEW, waited=True)
    assert (str(late), late.exit_code) == (f"{said}; the command need not be repeated", 5)
    assert ReviewWaitsError(REVIEW, waited=False).exit_code == 0


def test_a_command_without_a_signature_is_what_was_signed() -> None:
    command: MemoryCommand = SAMPLES["MemoryCommand"]
    assert command_message(command) == command_message(replace(command, signature=""))
