"""What a client gets for a request: an answer with its arrays, or an error that carries the server's code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from schemas.result import InferenceResult
from streams.errors import IsosError, RetriableError
from streams.tensors import DATATYPES, Array, MalformedBytesError, to_array


class InferenceError(IsosError):
    """A request did not end OK: ``status``, ``code`` of the closed list, sentence, id, ms until a retry (0: none)."""

    def __init__(self, result: InferenceResult) -> None:
        error = result.error
        self.status = result.status
        self.code = error.code if error else "internal"
        self.message = error.message if error else ""
        self.retry_after_ms = error.retry_after_ms if error else 0
        self.request_id = result.request_id
        super().__init__(self.status, self.code, self.message, self.request_id)

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.status} {self.code}: {self.message}"


class RequestRejectedError(InferenceError):
    """The request is refused as it stands; the same again will be refused again, unless ``retry_after_ms`` is set."""


class RequestExpiredError(InferenceError):
    """The deadline passed before there was an answer."""


class RequestFailedError(InferenceError):
    """The server could not answer."""


class NoResultError(RetriableError):
    """No result arrived within ``seconds``; the request may still be answered in the log."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(request_id, seconds)
        self.request_id = request_id
        self.seconds = seconds

    def __str__(self) -> str:
        return f"request {self.request_id} has no result after {self.seconds:g} s"


class RequestTooLargeError(IsosError):
    """A request of ``size_bytes`` is larger than a record may be (``limit_bytes``); nothing was sent."""

    code = "payload_too_large"

    def __init__(self, request_id: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(request_id, size_bytes, limit_bytes)
        self.request_id = request_id
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"request {self.request_id} has {self.size_bytes} bytes, a record may have {self.limit_bytes}"


_ERRORS: Final = {"REJECTED": RequestRejectedError, "EXPIRED": RequestExpiredError, "ERROR": RequestFailedError}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result: its output tensors by name, the record, when it was read (us).

    Arrays are read-only views of the record; BYTES are arrays of ``bytes`` objects, BF16 comes as float32.
    """

    outputs: Mapping[str, Array]
    result: InferenceResult
    read_us: int

    @property
    def request_id(self) -> str:
        """Id of the request that this answers."""
        return self.result.request_id

    @property
    def ok(self) -> bool:
        """Whether the request ended OK."""
        return self.result.status == "OK"

    def error(self) -> InferenceError | None:
        """The error that the status and code stand for; None when the request ended OK."""
        return None if self.ok else _ERRORS[self.result.status](self.result)

    def raise_for_status(self) -> Answer:
        """This answer, when OK; else RequestRejectedError, RequestExpiredError or RequestFailedError."""
        error = self.error()
        if error is not None:
            raise error
        return self


def answer_of(result: InferenceResult, read_us: int) -> Answer:
    """Answer of a result record, whatever its status."""
    return Answer(dict(_readable(result)), result, read_us)


def _readable(result: InferenceResult) -> Iterator[tuple[str, Array]]:
    """Outputs by name; one that is no tensor by its own datatype stays in the record only."""
    for tensor in result.outputs:
        if tensor.datatype in DATATYPES:
            with suppress(MalformedBytesError):
                yield tensor.name, to_array(tensor)
