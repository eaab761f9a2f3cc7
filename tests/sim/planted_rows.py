"""Bugs to plant in what becomes of rows: other tries, copies, breakers, repeated ids, cached answers, order of keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

import agents.admission
import agents.retry
import agents.route
import agents.router
import agents.shadow
import agents.validator
import executors.outbox
import executors.retry
import streams.cache.fill
import streams.memory_view
from executors.lines import Lines
from executors.retry import Retries
from schemas.frame import InferenceFrame, Segment
from schemas.model import ModelVersion
from streams.cache.keys import CacheScope, scope_of
from streams.cache.values import TAG_BYTES, Seal
from streams.columns import take
from streams.edge.key_lines import KeyLines
from streams.edge.request_ids import Claim, RequestIds
from streams.edge.service import NewestReport
from streams.memory_view import MemoryView, cache_scope
from tests.sim.breaker_invariants import KEPT
from tests.sim.cache_invariants import CACHED
from tests.sim.commit_invariants import COMMIT
from tests.sim.invariants import COPY, DEFECT, DRAINED, ONE_HOLDER, OUTPUTS
from tests.sim.order_invariants import ORDERED
from tests.sim.planting import Planted
from tests.sim.profile import FOREVER_US
from tests.sim.retry_invariants import RETRIED
from tests.sim.shadow_invariants import SHADOWED

_retried = agents.retry.retried
_retry_frame = executors.retry.retry_frame
_init_retries = Retries.__init__
_drained_us = NewestReport.drained_us
_claim = RequestIds.claim
_gate = agents.validator._gate
_feed = Lines.feed

_FAILING: Final = {"passing": 0.8, "request": 0.1, "warm_up": 1_000, "rate_per_s": 1e6, "give_up_us": FOREVER_US}
_BROKEN: Final = {"breakers": True, "operator": 0.02, "request": 0.1, "warm_up": 1_000}
_ORDERED: Final = {"ordered": True, "cached": False, "request": 0.1, "warm_up": 1_000, "rate_per_s": 1e6}
_HEDGED: Final = {"hedged": True, "request": 0.1, "warm_up": 1_000}
_SHADOWED: Final = {"shadowed": True, "request": 0.1, "warm_up": 1_000}
_CRASHES: Final = {**_SHADOWED, "weights": {"crash": 1.0}, "fault": 0.03, "rate_per_s": 1e6}
_CACHED: Final = {"cached": True, "operator": 0.02, "request": 0.1, "warm_up": 1_000, "refusal": 0.0}


async def _is_its_own_duplicate(self: RequestIds, claims: Any, spans: Any) -> dict[int, Claim]:
    known = {at: Claim.unpack(claim) for at, (key, claim) in enumerate(claims) if self._local.get(key) == claim}
    return {**await _claim(self, claims, spans), **known}


async def _refuses_the_holder_too(self: RequestIds, claims: Any, spans: Any) -> dict[int, Claim]:
    """Two of one tick, the holder and its repetition: each is refused for the other's sake."""
    met = await _claim(self, claims, spans)
    by_key = {claims[at][0]: at for at in met}
    for at, (key, claim) in enumerate(claims):
        if at not in met and key in by_key:
            met[at] = Claim.unpack(claims[by_key[key]][1])
            assert met[at] != Claim.unpack(claim)
    return met


def _work_comes_with_time(self: NewestReport, now_us: int) -> float:
    return -1e6 * _drained_us(self, now_us)


def _takes_any_value(self: Seal, field: bytes, value: bytes) -> Any:
    del field
    return self._read(value[TAG_BYTES:])


def _forgets_the_policy(view: MemoryView, model: str, version: str) -> CacheScope | None:
    scope = cache_scope(view, model, version)
    return None if scope is None else replace(scope, since=0)


def _every_epoch_is_one(version: ModelVersion, epoch: int) -> bytes:
    return scope_of(version, min(epoch, 1))


def _one_digest(segment: Segment, row_items: Any) -> list[bytes]:
    return [b"a digest of input"[:16]] * len(row_items)


def _counts_every_copy(state: Any, frame: InferenceFrame, now_us: int, memory: MemoryView) -> Any:
    return _gate(state, replace(frame, roles=bytes(len(frame.roles))), now_us, memory)


def _forgets_what_failed(work: Any, rows: Any) -> InferenceFrame:
    return take(_retry_frame(work, rows), np.array([], np.int64))


def _waits_for_nothing(frame: InferenceFrame, *given: Any, **more: Any) -> Any:
    return _retried(replace(frame, not_before_us=0), *given, **more)


def _tries_for_ever(self: Retries, max_attempts: Any) -> None:
    _init_retries(self, lambda _model: 1_000_000)


def _costs_nothing(tokens: Any, name: str, num_rows: int) -> tuple[Any, int]:
    return tokens, num_rows


def _no_row_is_behind(self: KeyLines, progress: Any, row: Any) -> bool:
    return False


def _gives_all_it_has(self: Lines, may_go: Any) -> Any:
    return _feed(self, lambda model: True)


def _as_they_were(frame: Any, effects: Any, *_: Any) -> tuple[Any, ...]:
    return tuple(effects)


ROWS: Final[dict[str, Planted]] = {
    "the executor forgets rows that are to be tried elsewhere": Planted(
        executors.outbox, "retry_frame", _forgets_what_failed, (COMMIT,), _FAILING
    ),
    "rows are tried again at once": Planted(agents.router, "retried", _waits_for_nothing, (RETRIED,), _FAILING),
    "rows are tried again for ever": Planted(Retries, "__init__", _tries_for_ever, (RETRIED,), _FAILING),
    "another try costs nothing": Planted(
        agents.retry, "spent", _costs_nothing, (RETRIED,), {**_FAILING, "poor": True, "weights": {}, "fault": 0.0}
    ),
    "the Router does not look at breakers": Planted(agents.route, "breakers", lambda *_: {}, (KEPT,), _BROKEN),
    "rows that no version may take are left out": Planted(
        agents.router, "refused_rows", lambda *_: {}, (COMMIT, DRAINED, DEFECT), _BROKEN
    ),
    "a copy that went badly ends its request": Planted(
        agents.validator, "_gate", _counts_every_copy, (COPY, OUTPUTS), _HEDGED
    ),
    "whoever says so is a check": Planted(
        agents.admission, "is_check", lambda *_: True, (OUTPUTS,), {"request": 0.1, "give_up_us": FOREVER_US}
    ),
    "a copy for a shadow is answered": Planted(
        agents.validator, "_gate", _counts_every_copy, (SHADOWED, COPY, OUTPUTS), _CRASHES
    ),
    "a shadow gets copies of every row": Planted(agents.shadow, "is_chosen", lambda *_: True, (SHADOWED,), _SHADOWED),
    "a redelivered request is a duplicate of itself": Planted(RequestIds, "claim", _is_its_own_duplicate, (OUTPUTS,)),
    "the edge's forecast takes time that passed for work": Planted(
        NewestReport, "drained_us", _work_comes_with_time, (OUTPUTS,)
    ),
    "an id's holder is refused for its own repetition": Planted(
        RequestIds,
        "claim",
        _refuses_the_holder_too,
        (ONE_HOLDER,),
        {
            "weights": {"crash": 1.0, "freeze": 0.5},
            "refusal": 0.0,
            "request": 0.1,
            "fetch": 80,  # one read brings holder and repetition
            "rate_per_s": 1e6,
            "warm_up": 1_000,
            "give_up_us": FOREVER_US,
        },
    ),
    "a value of the cache is taken without its tag": Planted(
        Seal,
        "open",
        _takes_any_value,
        (OUTPUTS, CACHED),
        {**_CACHED, "weights": {"redis flushed": 1.0}, "fault": 0.05, "operator": 0.002},
    ),
    "an answer is cached in the epoch after its own": Planted(
        streams.cache.fill, "cache_scope", _forgets_the_policy, (CACHED,), {**_CACHED, "operator": 0.05}
    ),
    "epochs have the same keys": Planted(streams.memory_view, "scope_of", _every_epoch_is_one, (CACHED,), _CACHED),
    "the cache's keys do not tell inputs apart": Planted(
        agents.router, "input_digests", _one_digest, (OUTPUTS,), _CACHED
    ),
    "a row passes one of its key that is being stored": Planted(
        KeyLines, "holds", _no_row_is_behind, (ORDERED,), {**_ORDERED, "blob_bytes": 16, "fetch": 20}
    ),
    "an executor runs rows of a key beside each other": Planted(Lines, "feed", _gives_all_it_has, (ORDERED,), _ORDERED),
    "rows of a key go to the lane of their model": Planted(
        agents.router, "in_order", _as_they_were, (ORDERED,), _ORDERED
    ),
}
