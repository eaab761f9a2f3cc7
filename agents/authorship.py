"""Who must stand behind a command of people: nobody, somebody registered, or a second person. Pure, for two agents.

Once a person's key holds, who else may sign changes only by somebody registered. The first key is believed, and so is
the first one after every other was revoked, which only a sandbox allows. (With people: without its development policy.)

| command | nobody registered | no environment | sandbox | sandbox with people | staging, production |
|---|---|---|---|---|---|
| a person is registered | free | signature | signature, or noted | approval | approval |
| a person's key ends | - | signature | signature, or noted | signature | signature |
| a process's key ends | free; outside a sandbox approval | signature | signature, or noted | signature | approval |
| the environment is set | free | free | free | signature | approval |
| a kind in ``gated`` | as the rest | free | noted | approval | approval |
| a larger canary | as ``ActivateVersion``; a smaller one is free | | | | |
| a roll-back with its policies | as ``ActivateVersion`` and as setting them | | | | |

*signature*: of anybody registered, also of whoever gives up their own key; it counts at once, for a stolen key must be
stopped at once. *approval*: the author signs and a second person approves. *noted*: the development policy approves,
and writes down what it skipped. Of agents' commands only a share for a version counts: the Scaler signs nothing, so
where people's wait for an approval a variant gets its share from people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from agents import canary
from agents.verdict import Refusal, State, keys_below
from schemas.environment import Environment, Signer
from schemas.known_good import Activation
from schemas.memory import MemoryCommand
from schemas.review import ReviewVote
from streams.canonical import from_json, to_plain
from streams.signing import signed_bytes, verify

PEOPLE: Final = frozenset({"cli", "operator"})
POLICIES: Final = ("SetServingPolicy", "SetCachePolicy")
SIGNER_CHANGES: Final = ("RegisterSigner", "RevokeSigner")

Need = Literal["nothing", "signature", "approval", "note"]


def command_message(command: MemoryCommand) -> bytes:
    """What an author signs: the command without its signature."""
    return signed_bytes("memory command", _unsigned(command))


def vote_message(vote: ReviewVote) -> bytes:
    """What a signer signs: the vote without its signature."""
    return signed_bytes("review vote", _unsigned(vote))


def _unsigned(record: MemoryCommand | ReviewVote) -> Mapping[str, Any]:
    return {name: value for name, value in to_plain(record).items() if name != "signature"}


def environment_of(state: State) -> Environment | None:
    """The environment, or None where nobody declared one: then nothing waits for an approval."""
    value = state.values.get("environment")
    return None if value is None else from_json(Environment, value.body, newer=True)


def signer_of(state: State, name: str) -> Signer | None:
    """A registered signer, revoked ones too."""
    value = state.values.get(f"signer/{name}")
    return None if value is None else from_json(Signer, value.body, newer=True)


def holders(state: State) -> tuple[Signer, ...]:
    """Every person whose key holds, by name."""
    found = (from_json(Signer, state.values[key].body, newer=True) for key in keys_below(state, "signer/"))
    return tuple(signer for signer in found if signer.kind == "person" and not signer.revoked_us)


def need_of(state: State, command: MemoryCommand) -> Need:
    """Who must stand behind a command that its own rule allows."""
    if command.agent not in PEOPLE and command.kind != canary.SET:
        return "nothing"
    environment = environment_of(state)
    need = _need(state, command, environment)
    if need == "nothing" or environment is None or not (environment.is_sandbox and environment.development_policy):
        return need
    is_signed = command.kind in SIGNER_CHANGES and refused_signature(state, command) is None
    return "nothing" if is_signed else "note"


def _need(state: State, command: MemoryCommand, environment: Environment | None) -> Need:
    is_strict = environment is not None and not environment.is_sandbox
    if command.kind == "RegisterSigner":
        if not holders(state):
            return "nothing"
        return "signature" if environment is None else "approval"
    if command.kind == "RevokeSigner":
        standing = signer_of(state, command.key.removeprefix("signer/"))
        if is_strict and standing is not None and standing.kind == "process":
            return "approval"
        return "signature" if holders(state) else "nothing"
    if command.kind == "SetEnvironment":
        is_watched = environment is not None and not environment.development_policy and bool(holders(state))
        return "approval" if is_strict else "signature" if is_watched else "nothing"
    if command.kind == canary.SET and canary.lowers(state, command):
        return "nothing"
    kinds: tuple[str, ...] = (canary.SET, canary.GATED_AS) if command.kind == canary.SET else (command.kind,)
    if command.kind == canary.GATED_AS and from_json(Activation, command.body, newer=True).configuration is not None:
        kinds += POLICIES  # it puts them back as they were
    return "approval" if environment is not None and any(kind in environment.gated for kind in kinds) else "nothing"


def must_be_signed(state: State, command: MemoryCommand) -> bool:
    """Whether a registered person's signature has to stand under a command."""
    return need_of(state, command) in ("signature", "approval")


def attributed(state: State, command: MemoryCommand) -> MemoryCommand:
    """A change of who may sign, with the name under it in its reason: memory's events hold no signatures."""
    if command.kind in SIGNER_CHANGES and command.signature and refused_signature(state, command) is None:
        return replace(command, reason=f"{command.reason}; signed by {command.author}")
    return command


def refused_signature(state: State, command: MemoryCommand) -> Refusal | None:
    """Why nobody registered has signed a command; None where somebody has."""
    return _refused(command, signer_of(state, command.author), "needs the signature of somebody registered")


def refused_author(state: State, command: MemoryCommand) -> Refusal | None:
    """As ``refused_signature``, for a command that waits; but a new signer signs its registration with its own key."""
    signer = signer_of(state, command.author)
    if command.kind == "RegisterSigner":
        signer = from_json(Signer, command.body)
        if signer.name != command.author:
            return Refusal("unsigned_command", f"A new signer signs the registration itself: {signer.name} has not.")
    return _refused(command, signer, "waits for an approval here, so its author must sign it")


def _refused(command: MemoryCommand, signer: Signer | None, why: str) -> Refusal | None:
    if not command.author or not command.signature:
        return Refusal("unsigned_command", f"{command.kind} {why}.")
    if signer is None or signer.kind != "person":
        return Refusal("unknown_signer", f"{command.author[:64]} is no registered person.")
    if signer.revoked_us:
        return Refusal("signer_revoked", f"The key of {signer.name} was revoked.")
    if not verify(signer.public_key, command_message(command), command.signature):
        return Refusal("bad_signature", f"The signature is not {signer.name}'s for this command.")
    return None
