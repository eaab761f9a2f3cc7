"""Roll-back without a person: rules of the Orchestrator for configurations that proved themselves and others.

A critical alert (``TRIGGERS``) or a failed check blames the active version V. If another version G proved itself
earlier (``good/<model>``, which the Monitor asks for), V has not, and the serving policy allows it, then G is made
active in the very decision that notes the alert's incident: ``VersionRolledBack``, ``RollbackStarted`` under
``rollback/<model>``, and an incident that stays open until the roll-back is verified. Where G proved itself under other
policies than those in force, they are put back with it (``agents.configuration``). Where V did prove itself, but is
served otherwise since, V stays and is served as it was then. People are told by an escalation either way, also where
nothing could be done.

Never back and forth: a version that was rolled back from, by us or by a person, proved nothing any more and is no
target until it proves itself anew; and within ``COOLDOWN_US`` of a roll-back of the model the next one is a person's.
Never to what was not in force when it proved itself: the Monitor says how rows were served, and where that is not what
stands, it is not noted.
Verified is a roll-back once all checks of ``VERIFIED_BY`` passed (the golden set where the model has one), or the
Monitor says that G proved itself in service again; and no check failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from agents.configuration import put_back, standing
from agents.verdict import ANY_VERSION, Change, Refusal, State, Verdict
from schemas.check import DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING
from schemas.coordinate import RecordCoordinate
from schemas.known_good import KEPT_GOOD, VERSION, Activation, Check, GoodVersion, KnownGood, Rollback
from schemas.memory import MemoryCommand
from schemas.review import Escalation, Validation
from schemas.serving import ServingPolicy
from schemas.telemetry import Alert
from streams.agent import NO_EFFECTS, Effects, Event, Publish
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, Incident

AGENT: Final = "orchestrator"
KIND: Final = "rollback"
TRIGGERS: Final = ("slo_burn", "breaker_open")
VERIFIED_BY: Final = (SERVING, LATENCY, GOLDEN_SET, INTEGRITY)
BLAMING: Final = (*VERIFIED_BY, DRIFT)
"""Checks whose failure says that the version that serves should not."""
BY_POLICY: Final = (SERVING, LATENCY, GOLDEN_SET)
"""Those whose failure can come of how a version is served: rows that drift and damaged files do not."""
IN_SERVICE: Final = "in_service"
"""Name of the check that the Monitor makes: the version served for a while and nothing stood against it."""
COOLDOWN_US: Final = 600_000_000

_T = TypeVar("_T")

Append = Callable[[State, MemoryCommand, tuple[Change, ...], tuple[RecordCoordinate, ...], int], tuple[State, Effects]]
"""How the Orchestrator writes changes to memory."""


@dataclass(frozen=True, slots=True)
class Case:
    """Why a version should give way: the alert or validation ``trigger`` and what it says.

    ``by_policy``: whether it can come of how the version is served.
    """

    trigger: str
    model: str
    version: str
    why: str
    causes: tuple[RecordCoordinate, ...]
    by_policy: bool = True


def answer(state: State, record: Alert | Validation, event: Event, append: Append) -> tuple[State, Effects]:
    """Roll back, verify a roll-back, or tell people that they have to; nothing where the record asks for nothing."""
    if isinstance(record, Validation) and (steps := _verified_by(state, record)) is not None:
        rollback, check = steps
        return _note(state, rollback, check, (*record.causes, event.coordinate), event.now_us, append)
    case = case_of(record, event.coordinate)
    active = None if case is None else _body(state, f"active/{case.model}", ActiveVersion)
    if case is None or active is None or (case.version and case.version != active.version):
        return state, NO_EFFECTS
    target = _target(state, case, active.version, event.now_us)
    if isinstance(target, Refusal):
        reason = f"{case.model} {active.version} is not rolled back by itself: {target.message}. {case.why}"
        return state, (escalation(f"{case.trigger}/{target.code}", case.model, reason, case.causes, event.now_us),)
    return _roll_back(state, case, active.version, target, event.now_us, append)


def case_of(record: Alert | Validation, coordinate: RecordCoordinate) -> Case | None:
    """Why the version that an alert or a failed check names should give way; None where it asks for nothing."""
    causes = (*record.causes, coordinate)
    if isinstance(record, Alert):
        is_breach = record.kind in TRIGGERS and record.severity == "critical" and not record.resolved
        if not is_breach or not record.model:
            return None
        return Case(record.alert_id, record.model, record.version, record.message, causes)
    if record.outcome != "failed" or record.check not in BLAMING or not record.version:
        return None
    why = f"The check {record.check} of {record.model} {record.version} failed: {record.message}"
    return Case(record.validation_id, record.model, record.version, why, causes, record.check in BY_POLICY)


def _target(state: State, case: Case, active: str, now_us: int) -> GoodVersion | Refusal:
    """What to go back to, or why there is nothing."""
    good = _body(state, f"good/{case.model}", KnownGood) or KnownGood(case.model, ())
    policy = _body(state, f"serving/{case.model}", ServingPolicy) or ServingPolicy(case.model)
    last = _body(state, f"rollback/{case.model}", Rollback)
    if not case.version:
        return Refusal("nobody_to_blame", "more than one version breaks the promise")
    if not policy.auto_rollback:
        return Refusal("auto_rollback_off", "its serving policy leaves that to people")
    proved = good.of(active)
    if proved is not None and not (case.by_policy and _differences(state, case.model, proved)):
        return Refusal("proven", "it proved itself in service before, so the cause may be elsewhere")
    if last is not None and now_us - last.at_us < COOLDOWN_US:
        return Refusal("cooldown", f"{case.model} was rolled back {(now_us - last.at_us) // 1_000_000} s ago already")
    for each in good.versions if proved is None else (proved,):
        key = f"{case.model}/{each.version}"
        if each is proved or (f"model/{key}" in state.values and f"breaker/{key}" not in state.values):
            return each
    return Refusal("no_known_good", "no other version proved itself that could serve")


def _differences(state: State, model: str, good: GoodVersion) -> tuple[str, ...]:
    """In what the model is served otherwise than when that version proved itself, as far as that is known."""
    return () if good.configuration is None else good.configuration.differences(standing(state, model))


def _roll_back(
    state: State, case: Case, before: str, target: GoodVersion, now_us: int, append: Append
) -> tuple[State, Effects]:
    differing = _differences(state, case.model, target)
    restored = (*((VERSION,) if target.version != before else ()), *differing)
    sentence = f"{_sentence(case.model, before, target.version, differing)}. {case.why}"
    identity = f"{KIND}/{case.model}/{now_us}"
    rollback = Rollback(identity, case.model, before, target.version, case.trigger, case.why, now_us, restored=restored)
    incident = Incident(identity, KIND, case.model, "critical", sentence, to_json(rollback))
    key = f"active/{case.model}"
    changes = (
        *_steps(state, case.model, before, target),
        Change("RollbackStarted", f"{KIND}/{case.model}", to_json(rollback)),
        *_ended(state, case.model),
        Change("IncidentRaised", f"incident/{identity}", to_json(incident)),
    )
    command = MemoryCommand(
        f"{case.trigger}/{KIND}", AGENT, "RollBack", key, ANY_VERSION, to_json(target), sentence, case.causes, now_us
    )
    state, effects = append(state, command, changes, case.causes, now_us)
    return state, (*effects, escalation(identity, case.model, sentence, case.causes, now_us))


def _sentence(model: str, before: str, target: str, differing: tuple[str, ...]) -> str:
    """What a roll-back does, without a full stop."""
    policy = f"served as when it proved itself ({', '.join(differing)})"
    if before == target:
        return f"{model} {target} is {policy}"
    return f"{model} is rolled back from {before} to {target}{f', {policy}' if differing else ''}"


def _steps(state: State, model: str, before: str, target: GoodVersion) -> tuple[Change, ...]:
    """What makes ``target`` serve as it did."""
    changes: tuple[Change, ...] = ()
    if target.version != before:
        changes += (Change("VersionRolledBack", f"active/{model}", to_json(ActiveVersion(model, target.version))),)
    return changes if target.configuration is None else (*changes, *put_back(state, model, target.configuration))


def go_back(state: State, wanted: Activation, before: str) -> Verdict:
    """A person's roll-back to what proved itself, all of it; not to anything else."""
    good = _body(state, f"good/{wanted.model}", KnownGood) or KnownGood(wanted.model, ())
    target = good.of(wanted.version)
    if target is None or target.configuration is None or target.configuration != wanted.configuration:
        return Refusal("never_good", f"{wanted.model} {wanted.version} did not prove itself in this configuration.")
    left = () if target.version == before else struck(state, wanted.model, before)
    return (*_steps(state, wanted.model, before, target), *left)


def _ended(state: State, model: str) -> tuple[Change, ...]:
    """The end of an earlier roll-back's incident, which nobody will verify any more."""
    last = _body(state, f"{KIND}/{model}", Rollback)
    key = "" if last is None else f"incident/{last.rollback_id}"
    return (Change("IncidentResolved", key, None),) if key in state.values else ()


def mark_version_good(state: State, command: MemoryCommand) -> Verdict:
    """Note that the active version proved itself; it also verifies a roll-back to it."""
    marked = from_json(KnownGood, command.body)
    if command.key != f"good/{marked.model}" or len(marked.versions) != 1:
        return Refusal("invalid_body", f"One version of {marked.model} is marked under good/{marked.model}.")
    (entry,) = marked.versions
    active = _body(state, f"active/{marked.model}", ActiveVersion)
    if active is None or f"model/{marked.model}/{entry.version}" not in state.values:
        return Refusal("unknown_version", f"{marked.model} has no version {entry.version}.")
    if active.version != entry.version:
        return Refusal("not_active", f"{marked.model} is served by {active.version}, not by {entry.version}.")
    if entry.configuration is not None:
        now = standing(state, marked.model)
        if differing := entry.configuration.differences(now):
            return Refusal("other_policy", f"{marked.model} is served otherwise by now: {', '.join(differing)}.")
        entry = replace(entry, configuration=now)
    known = _body(state, command.key, KnownGood) or KnownGood(marked.model, ())
    earlier = tuple(each for each in known.versions if each.version != entry.version)
    after = KnownGood(marked.model, (entry, *earlier)[:KEPT_GOOD])
    changes = (Change("VersionMarkedGood", command.key, to_json(after)),)
    last = _body(state, f"{KIND}/{marked.model}", Rollback)
    is_awaited = last is not None and last.state == "verifying" and last.to_version == entry.version
    if last is None or not is_awaited or entry.since_us < last.at_us:
        return changes
    return (*changes, *_checked(state, last, Check(IN_SERVICE, True, command.reason))[1])


def struck(state: State, model: str, left: str) -> tuple[Change, ...]:
    """A person rolled back from a version: it proved nothing any more."""
    known = _body(state, f"good/{model}", KnownGood)
    if known is None or not known.has(left):
        return ()
    kept = tuple(each for each in known.versions if each.version != left)
    body = to_json(replace(known, versions=kept)) if kept else None
    return (Change("KnownGoodStruck", f"good/{model}", body),)


def _verified_by(state: State, record: Validation) -> tuple[Rollback, Check] | None:
    """The roll-back that a validation answers, and what it says of it."""
    last = _body(state, f"{KIND}/{record.model}", Rollback)
    if last is None or record.alert_id != last.rollback_id or record.outcome not in ("passed", "failed"):
        return None
    if last.state == "verified" or record.version != last.to_version or record.check not in VERIFIED_BY:
        return None
    return last, Check(record.check, record.passed, record.message, record.validation_id)


def _note(
    state: State,
    last: Rollback,
    check: Check,
    causes: tuple[RecordCoordinate, ...],
    now_us: int,
    append: Append,
) -> tuple[State, Effects]:
    after, changes = _checked(state, last, check)
    told = "passed" if check.passed else "failed"
    reason = f"The roll-back of {last.model} to {last.to_version}: {check.name} {told}. {check.message}"
    key = f"{KIND}/{last.model}"
    identity = f"{last.rollback_id}/{check.name}"
    command = MemoryCommand(identity, AGENT, "NoteCheck", key, ANY_VERSION, to_json(after), reason, causes, now_us)
    state, effects = append(state, command, changes, causes, now_us)
    if check.passed:
        return state, effects
    return state, (*effects, escalation(f"{identity}/failed", last.model, reason, causes, now_us))


def _checked(state: State, last: Rollback, check: Check) -> tuple[Rollback, tuple[Change, ...]]:
    """The roll-back with what a check came to, and whether that verifies it."""
    checks = (*(each for each in last.checks if each.name != check.name), check)
    passed = {each.name for each in checks if each.passed}
    has_golden = f"golden/{last.model}" in state.values
    needed = [name for name in VERIFIED_BY if name != GOLDEN_SET or has_golden]
    is_enough = IN_SERVICE in passed or passed.issuperset(needed)
    is_verified = is_enough and all(each.passed for each in checks)
    after = replace(last, checks=checks, state="verified" if is_verified else "verifying")
    key, incident = f"{KIND}/{last.model}", f"incident/{last.rollback_id}"
    change = Change("RollbackVerified" if is_verified else "RollbackChecked", key, to_json(after))
    if not is_verified or incident not in state.values:
        return after, (change,)
    return after, (change, Change("IncidentResolved", incident, None))


def escalation(identity: str, model: str, reason: str, causes: tuple[RecordCoordinate, ...], now_us: int) -> Publish:
    """What people are told of a model."""
    told = Escalation(identity, AGENT, model, reason, now_us, causes)
    return Publish("control.escalations", model.encode(), told)


def _body(state: State, key: str, kind: type[_T]) -> _T | None:
    value = state.values.get(key)
    return None if value is None else from_json(kind, value.body, newer=True)
