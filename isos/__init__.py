"""The public face: ``from isos import Client, SyncClient, Request``."""

from __future__ import annotations

from schemas.request import BlobRef, InferenceRequest, Tensor
from schemas.result import InferenceResult
from streams.client.client import (
    Answer,
    Client,
    InferenceError,
    NoResultError,
    Request,
    RequestExpiredError,
    RequestFailedError,
    RequestRejectedError,
    RequestTooLargeError,
)
from streams.client.sync import SyncClient
from streams.connection import Connection
from streams.errors import IsosError, RetriableError

__all__ = [
    "Answer",
    "BlobRef",
    "Client",
    "Connection",
    "InferenceError",
    "InferenceRequest",
    "InferenceResult",
    "IsosError",
    "NoResultError",
    "Request",
    "RequestExpiredError",
    "RequestFailedError",
    "RequestRejectedError",
    "RequestTooLargeError",
    "RetriableError",
    "SyncClient",
    "Tensor",
]
