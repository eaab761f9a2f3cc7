"""The error family of the code, and the closed list of codes that clients and operators see.

``IsosError`` divides by what the caller does: retry, set the record aside, or crash. ``CODES`` is the contract: a code
never changes its meaning, and ``docs/errors.md`` is generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


class IsosError(Exception):
    """Root of our errors; subclasses hold fields and compose their sentence from them."""


class RetriableError(IsosError):
    """The same call may succeed later: a broker or Redis that is away, a claim that was lost."""


class PoisonRecordError(IsosError):
    """This record can never be processed; it goes to the dead letters under ``code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvariantError(IsosError):
    """Our own bug or a corrupted log: stop loudly, never go on."""


class FencedError(RetriableError):
    """Another writer has taken this partition over; the holder must stop, and may claim again."""

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(topic, partition)
        self.topic = topic
        self.partition = partition

    def __str__(self) -> str:
        return f"the write to {self.topic}-{self.partition} was refused: another writer has taken it over"


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the closed list: the status it comes with, what it means and what the caller can do."""

    name: str
    status: Literal["ERROR", "REJECTED", "EXPIRED"]
    meaning: str
    remedy: str


_TABLE: Final = (
    Code(
        "garbage",
        "ERROR",
        "The record's value is not Avro with the Confluent prefix.",
        "Send 00, the 4-byte schema id, then the Avro body. The record also stands in the dead letters.",
    ),
    Code(
        "null_value",
        "ERROR",
        "The record has no value.",
        "A request needs a value; the record also stands in the dead letters.",
    ),
    Code(
        "unknown_schema",
        "ERROR",
        "The schema id in the record's prefix is not registered for the requests subject.",
        "Register the schema or use the id that the registry gives for the subject; "
        "the record also stands in the dead letters.",
    ),
    Code(
        "invalid_request_id",
        "REJECTED",
        "The request id is not 1 to 64 characters long.",
        "Use an id of 1 to 64 characters, unique per tenant.",
    ),
    Code(
        "invalid_model_name",
        "REJECTED",
        "The model name does not match ^[a-zA-Z0-9_-]{3,64}$.",
        "Correct the name; `isos models list` shows what is registered.",
    ),
    Code(
        "invalid_version",
        "REJECTED",
        "The version does not match ^v\\d+\\.\\d+\\.\\d+$.",
        "Pin a version like v1.0.0, or send null to let the plan decide.",
    ),
    Code(
        "invalid_tenant",
        "REJECTED",
        "The tenant is not 1 to 64 characters of a-z, A-Z, 0-9, underscore, dot and hyphen.",
        "Correct the tenant.",
    ),
    Code(
        "reserved_tenant",
        "REJECTED",
        "The tenant isos-validation is kept for the stack's own checks of model versions.",
        "Send as another tenant.",
    ),
    Code("invalid_priority", "REJECTED", "The priority is outside 0 to 9.", "Use 0 (first) to 9 (last)."),
    Code(
        "invalid_timeout",
        "REJECTED",
        "The timeout is negative or above the configured maximum.",
        "Use 0 for the default, or a value up to the maximum named in the message.",
    ),
    Code(
        "unknown_model",
        "REJECTED",
        "No such model is registered.",
        "Register it with `isos models register`, or correct the name.",
    ),
    Code(
        "not_allowed",
        "REJECTED",
        "A rule forbids the model for the tenant, in this region, or for an input that it takes.",
        "The message names the rule; whoever is responsible for the rules file can change it.",
    ),
    Code(
        "unknown_version",
        "REJECTED",
        "The model is registered, the pinned version is not.",
        "`isos models show NAME` lists its versions.",
    ),
    Code(
        "wrong_inputs",
        "REJECTED",
        "The request's tensors are not those of the model's signature.",
        "Send exactly the inputs that `isos models show NAME` lists.",
    ),
    Code(
        "wrong_datatype",
        "REJECTED",
        "A tensor's datatype is not the signature's.",
        "Send the datatype that the message names.",
    ),
    Code(
        "wrong_shape",
        "REJECTED",
        "A tensor's shape does not fit the signature, or its bytes do not fit its shape.",
        "Send the shape that the message names; data is row-major and little-endian.",
    ),
    Code(
        "batch_too_large",
        "REJECTED",
        "The first axis is larger than 128 or than the model's batch limit.",
        "Split the batch.",
    ),
    Code(
        "payload_too_large",
        "REJECTED",
        "The tensors are larger than 10 MB in all, or a BYTES tensor has more than 65,536 elements.",
        "Send less per request.",
    ),
    Code(
        "malformed_bytes",
        "REJECTED",
        "The data of a BYTES tensor is not its shape's number of elements, each a 4-byte little-endian length and "
        "that many bytes of UTF-8.",
        "Write every element with its length before it; the message names the first that is wrong.",
    ),
    Code(
        "not_finite",
        "REJECTED",
        "A tensor holds NaN or infinity and the model's manifest forbids them.",
        "Clean the input.",
    ),
    Code(
        "invalid_blob",
        "REJECTED",
        "The blob reference is malformed, or the request carries tensor data beside it.",
        "Give the SHA-256 in hex and the size in bytes of all tensors' data in order, and leave `data` empty.",
    ),
    Code(
        "blob_missing",
        "ERROR",
        "The blob that the request names is not in the blob store.",
        "Store the blob before the request is sent, or send the tensors in `inputs`.",
    ),
    Code(
        "blob_corrupt",
        "ERROR",
        "The stored blob does not have the digest or the size that the request names.",
        "Store the blob anew and send the request again under another id.",
    ),
    Code(
        "duplicate_in_flight",
        "REJECTED",
        "A request of this tenant with the same id and the same input is still being processed.",
        "Wait for the result of the first one; the message names its coordinate. With `retry_after_ms` the first one "
        "could not be looked up in time: send the request again after that.",
    ),
    Code(
        "id_conflict",
        "REJECTED",
        "The tenant used this request id a short while ago for another input.",
        "Choose an id of its own for each request; only a repetition of the same input may reuse one.",
    ),
    Code("quota_exceeded", "REJECTED", "The tenant is above its request rate.", "Try again after `retry_after_ms`."),
    Code(
        "overloaded",
        "REJECTED",
        "More work waits than can be done in time, for this model or for all.",
        "Try again after `retry_after_ms`, or send less load.",
    ),
    Code(
        "deadline_exceeded",
        "EXPIRED",
        "The deadline passed before the request was executed.",
        "Allow more time, or send less load.",
    ),
    Code(
        "no_plan",
        "ERROR",
        "The model is registered, but no plan for it became effective in time.",
        "Try again; `isos status` shows whether Planner and Orchestrator are up.",
    ),
    Code(
        "memory_silent",
        "REJECTED",
        "Nothing was heard of the control plane's memory for longer than its plans may be trusted.",
        "Try again after `retry_after_ms`; `isos status` shows whether the Orchestrator is up.",
    ),
    Code(
        "model_unavailable",
        "ERROR",
        "No executor could load the planned model version.",
        "`isos status` shows what executors hold; the executor's log names the reason.",
    ),
    Code(
        "circuit_open",
        "ERROR",
        "The model version failed most of its rows, its breaker is open, and no other version may serve in its stead.",
        "Try again after `retry_after_ms`; `isos serving show MODEL` shows the breaker and the fallbacks.",
    ),
    Code(
        "execution_failed",
        "ERROR",
        "The model raised an error on this input.",
        "Check the input against the model; the message holds the runtime's sentence.",
    ),
    Code(
        "output_invalid",
        "ERROR",
        "The model's output failed the output gate (shape, datatype, NaN or infinity).",
        "Check the model version; roll back if it is new.",
    ),
    Code(
        "lost",
        "ERROR",
        "The request was overtaken on its way and never answered; the reaper ended it.",
        "Try again; the ledger counts it as reaped.",
    ),
    Code(
        "internal",
        "ERROR",
        "A defect of the server; the log entry carries the request's coordinate.",
        "Report it with the request id.",
    ),
)

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}
