"""Rules of the Orchestrator for who may sign, and for what the environment is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from agents.approval import DEVELOPMENT, REVIEWER
from agents.authorship import environment_of, holders, signer_of
from agents.verdict import Change, Refusal, State, Verdict, keys_below
from schemas.environment import ENVIRONMENTS, Environment, Signer
from schemas.memory import MemoryCommand
from streams.canonical import from_json, to_json
from streams.signing import is_public_key

KEY: Final = "environment"
MAX_REVIEW_S: Final = 30 * 86_400
MAX_GATED: Final = 32
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,63}")
RESERVED: Final = frozenset({DEVELOPMENT, REVIEWER, "cli", "operator"})
PROCESSES: Final = ("orchestrator",)


def register_signer(state: State, command: MemoryCommand) -> Verdict:
    """Let a key sign under a name. A name keeps its key until that is revoked, and no key has two names."""
    signer = from_json(Signer, command.body)
    if command.key != f"signer/{signer.name}" or not NAME.fullmatch(signer.name) or signer.revoked_us:
        return Refusal("invalid_signer", f"{signer.name[:64]!r} is no name of a signer, or the key is not its own.")
    is_process = signer.kind == "process"
    if (
        signer.name in RESERVED
        or is_process != (signer.name in PROCESSES)
        or is_process != (command.agent in PROCESSES)
    ):
        return Refusal("invalid_signer", f"{signer.name} is the name of a process, or of none that signs.")
    if not is_public_key(signer.public_key):
        return Refusal("invalid_signer", f"The public key of {signer.name} is not one of Ed25519.")
    standing = signer_of(state, signer.name)
    if standing is not None and not standing.revoked_us:
        return Refusal("signer_exists", f"{signer.name} has another key; `isos reviews revoke {signer.name}` ends it.")
    holder = next((other for other in _signers(state) if other.public_key == signer.public_key), None)
    if holder is not None:
        how = f"was {holder.name}'s and is revoked" if holder.revoked_us else f"is {holder.name}'s"
        return Refusal("key_in_use", f"This key {how}; {signer.name} needs another one.")
    return (Change("SignerRegistered", command.key, to_json(signer)),)


def revoke_signer(state: State, command: MemoryCommand) -> Verdict:
    """End a key at once; what it signed before stays as it is. The last person's key ends in a sandbox only."""
    revoked = from_json(Signer, command.body)
    standing = signer_of(state, revoked.name)
    if standing is None or command.key != f"signer/{revoked.name}":
        return Refusal("unknown_signer", f"{revoked.name[:64]} is no registered signer.")
    if standing.revoked_us or replace(revoked, revoked_us=0) != standing or revoked.revoked_us < 1:
        return Refusal("invalid_signer", f"{revoked.name} has no such key, or it is revoked already.")
    environment = environment_of(state)
    holding = [each.name for each in holders(state)]
    if environment is not None and not environment.is_sandbox and holding == [revoked.name]:
        what = f"Without {revoked.name} nothing could be approved in {environment.name} any more"
        return Refusal("last_signer", f"{what}; register another person first.")
    return (Change("SignerRevoked", command.key, to_json(revoked)),)


def set_environment(state: State, command: MemoryCommand) -> Verdict:
    """Say what the environment is and what waits for an approval in it; outside a sandbox this waits itself."""
    del state
    wanted = from_json(Environment, command.body)
    return _refused_environment(command, wanted) or (Change("EnvironmentSet", KEY, to_json(wanted)),)


def declare_environment(state: State, command: MemoryCommand) -> Verdict:
    """What a stack was started as: set where nothing stands or something weaker; else what stands holds.

    What waited for an approval before waits on.
    """
    wanted = from_json(Environment, command.body)
    standing = environment_of(state)
    if standing is not None:
        if not _refused_environment(command, wanted) and _rank(wanted) <= _rank(standing):
            return ()
        wanted = replace(wanted, gated=tuple(dict.fromkeys((*standing.gated, *wanted.gated))))
    return _refused_environment(command, wanted) or (Change("EnvironmentSet", KEY, to_json(wanted)),)


def _rank(environment: Environment) -> int:
    return ENVIRONMENTS.index(environment.name)


def _refused_environment(command: MemoryCommand, wanted: Environment) -> Refusal | None:
    if command.key != KEY:
        return Refusal("invalid_body", f"The environment stands under {KEY}, not {command.key}.")
    if wanted.development_policy and not wanted.is_sandbox:
        return Refusal("invalid_environment", f"A development policy approves by itself: not in {wanted.name}.")
    if not 1 <= wanted.review_s <= MAX_REVIEW_S:
        return Refusal("invalid_environment", f"A review is open for 1 to {MAX_REVIEW_S} seconds.")
    if len(wanted.gated) > MAX_GATED or len(set(wanted.gated)) < len(wanted.gated) or not all(wanted.gated):
        return Refusal("invalid_environment", f"Up to {MAX_GATED} kinds of commands wait for an approval, each once.")
    return None


def _signers(state: State) -> tuple[Signer, ...]:
    return tuple(from_json(Signer, state.values[key].body, newer=True) for key in keys_below(state, "signer/"))
