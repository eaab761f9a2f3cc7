"""The public face: ``from isos import Client``."""

from __future__ import annotations

from streams.client import (
    Answer,
    Client,
    InferenceError,
    NoResultError,
    RequestExpiredError,
    RequestFailedError,
    RequestRejectedError,
)
from streams.errors import IsosError, RetriableError

__all__ = [
    "Answer",
    "Client",
    "InferenceError",
    "IsosError",
    "NoResultError",
    "RequestExpiredError",
    "RequestFailedError",
    "RequestRejectedError",
    "RetriableError",
]
