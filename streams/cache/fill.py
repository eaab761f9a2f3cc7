"""Which answers of a gated frame are cached, and under what. Pure."""

from __future__ import annotations

from schemas.frame import InferenceFrame
from streams.cache.values import payloads
from streams.memory_view import MemoryView, cache_scope, model_version


def fills(frame: InferenceFrame, memory: MemoryView, now_us: int) -> tuple[tuple[bytes, bytes], ...]:
    """Key (32 bytes) and payload of each row to be cached: OK, executed just now, with the digest of its input.

    Under the version that ran, and only by a policy that stood already when the row was routed: an answer that was
    under way while the epoch grew belongs to the epoch before.
    """
    if frame.input_digests is None:
        return ()

    def scope_of(model: str, version: str, digest: str, sequence: int) -> bytes | None:
        scope, facts = cache_scope(memory, model, version), model_version(memory, model, version)
        if scope is None or facts is None or facts.digest != digest or sequence < scope.since:
            return None
        return scope.scope

    return tuple(payloads(frame, frame.input_digests, scope_of, now_us))
