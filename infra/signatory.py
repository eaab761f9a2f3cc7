"""Who sends a command: the user's name on it, and their signature where it will wait for another person's approval."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agents.authorship import command_message, must_be_signed
from agents.verdict import State, Value
from infra.passphrase import unlock_by
from infra.review_keys import KeyFileError, Unlock, key_path, read_key
from infra.settings import Settings
from schemas.environment import OpenReview
from schemas.memory import MemoryCommand
from streams.errors import IsosError
from streams.memory_view import MemoryView
from streams.review_view import environment, review_of, signer_with
from streams.signing import public_key_of, sign

TIMED_OUT: Final = 5


class ReviewWaitsError(IsosError):
    """A command waits for a person; ``exit_code`` 5 where it was waited for, 0 where nobody wanted to."""

    def __init__(self, review: OpenReview, *, waited: bool) -> None:
        super().__init__(review, waited)
        self.review = review
        self.exit_code = TIMED_OUT if waited else 0

    def __str__(self) -> str:
        return f"{waits(self.review)}; the command need not be repeated"


@dataclass(frozen=True, slots=True)
class Signatory:
    """``user``: name in the operating system; ``path``: file of their key, which is read only where it is needed.

    ``unlock``: what knows the key's passphrase, if it has one.
    """

    user: str
    path: Path
    unlock: Unlock | None = None

    @classmethod
    def of(cls, settings: Settings) -> Signatory:
        """The user of this process, with the key that the settings name."""
        unlock = unlock_by(settings.review_passphrase_file)
        return cls(user_name(), key_path(settings.review_key_file), unlock)

    def signed(self, command: MemoryCommand, view: MemoryView) -> MemoryCommand:
        """The command with its author; signed by the registered person where the environment asks for it.

        Raises KeyFileError where there is no key, or nobody has registered it.
        """
        if command.signature or not must_be_signed(_gate(view), command):
            return command if command.author else replace(command, author=self.user)
        where = environment(view)
        what = f"{command.kind} must be signed in {where.name if where else 'this environment'}"
        try:
            private_key = read_key(self.path, self.unlock)
        except KeyFileError as error:
            raise KeyFileError(f"{what}. {error.sentence}", error.exit_code) from None
        person = signer_with(view, public_key_of(private_key))
        if person is None:
            how = "`isos reviews signers` shows who may sign; `isos reviews keygen --name NAME` registers you"
            raise KeyFileError(f"{what}, and the key {self.path} is nobody's; {how}", exit_code=4)
        return signed_by(person.name, private_key, command)


def signed_by(author: str, private_key: bytes, command: MemoryCommand) -> MemoryCommand:
    """The command with its author's name and signature."""
    command = replace(command, author=author, signature="")
    return replace(command, signature=sign(private_key, command_message(command)))


def waiting_review(view: MemoryView, command_id: str) -> OpenReview | None:
    """The review in which a command waits for people; None where it does not, or a sandbox's policy will answer."""
    review = review_of(view, command_id)
    return review if review is not None and review.request.policy == "people" else None


def waits(review: OpenReview) -> str:
    """What a person reads about a command that waits."""
    request = review.request
    return (
        f"{request.subject} waits for review {request.review_id}: somebody else than {request.author} runs "
        f"`isos reviews approve {request.review_id} --reason TEXT`"
    )


def user_name() -> str:
    """The user of this process by name, as the operating system says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, in a container say
        return "unknown"


def _gate(view: MemoryView) -> State:
    """As much of memory as the gate looks at."""
    wanted = ("environment", "signer/", "canary/")
    return State(
        values={key: Value(each.version, each.body) for key, each in view.entries.items() if key.startswith(wanted)}
    )
