"""A request as a user of the client states it: arrays in, no bytes; where it goes, and how long it is waited for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.request import BlobRef, InferenceRequest
from streams.tensors import Array

DEFAULT_WAIT_S: Final = 60.0
GRACE_S: Final = 15.0  # the server answers EXPIRED by itself; this is for its reaper and the way back


@dataclass(frozen=True, slots=True)
class Request:
    """One request: named input arrays whose first axis is the batch (1 to 128 items).

    ``version`` None lets the plan decide. ``priority`` 0 (first) to 9. ``timeout_ms`` is the server's budget, 0: its
    default. ``routing_key``: requests with the same one go to one partition, in order. ``request_id`` None: one is made
    up; ids of your own are 1 to 64 characters and unique per tenant. ``blob`` stands in for the tensors' data.
    """

    model: str
    inputs: Mapping[str, Array]
    version: str | None = None
    priority: int = 5
    timeout_ms: int = 0
    routing_key: str | None = None
    request_id: str | None = None
    blob: BlobRef | None = None


Requests = Iterable[Request | InferenceRequest] | AsyncIterable[Request | InferenceRequest]
"""Many requests, at hand or to come; records go out as they are."""


def wait_for(timeout_ms: int, wait_s: float | None) -> float:
    """Seconds to wait for a result: as asked for, else the server's budget and some grace."""
    if wait_s is not None:
        return wait_s
    return timeout_ms / 1000 + GRACE_S if timeout_ms > 0 else DEFAULT_WAIT_S


def default_bootstrap() -> str:
    """Kafka addresses from ``ISOS_BROKERS``, else the local stack's (port ``ISOS_BROKER_PORT``, 19092)."""
    return os.environ.get("ISOS_BROKERS") or f"127.0.0.1:{os.environ.get('ISOS_BROKER_PORT', '19092')}"
