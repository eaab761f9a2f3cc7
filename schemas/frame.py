"""The unit between the stages of the data plane: the requests of one tick of one source partition, columnar.

Rows are requests; a row holds ``row_items[i]`` batch items (1 to 128). Rows stand in segment order: segment 0's rows
first. Columns are little-endian numpy bytes with one entry per row over all segments.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.quick import quick
from schemas.request import BlobRef


class Spliced:
    """What was read from bytes and may be written as these bytes again.

    ``wire`` is a read-only view of them, or absent: it is no field, and no copy but one that says so has it.
    """

    __slots__ = ("wire",)

    wire: memoryview


@quick
@dataclass(frozen=True, slots=True)
class TensorBlock:
    """A tensor of a whole segment: ``data`` is row-major ``[items of the segment, *item_shape]``, C-contiguous.

    ``BYTES`` are each element's length (uint32) and UTF-8 text, one behind the other: blocks are joined as bytes are,
    and walked to be cut. ``data`` is empty in the inputs of a segment that has a ``blob``.
    """

    name: str
    datatype: str
    item_shape: tuple[int, ...]
    data: bytes


@quick
@dataclass(frozen=True, slots=True)
class Segment(Spliced):
    """A run of rows of one (model, version, input signature). Fields after ``inputs`` are filled by the executor.

    ``model_digest`` is the SHA-256 (hex) of the model, ``batch_id`` counts per executor, ``batch_size`` is in items.

    ``blob`` names where the inputs' data is: such a segment has one row, and its ``inputs`` stand, with empty ``data``,
    in the order in which their data is concatenated in the blob; a block takes items x item shape x datatype bytes.
    ``cached``: the outputs are an earlier request's.

    ``wire``: the Avro bytes behind model, version and cohort, of a segment that was not executed when it was read.
    """

    model: str
    version: str
    cohort: str
    num_rows: int
    inputs: tuple[TensorBlock, ...] = ()
    outputs: tuple[TensorBlock, ...] = ()
    model_digest: str = ""
    execution_provider: str = ""
    executor: str = ""
    batch_id: int = 0
    batch_size: int = 0
    queued_us: int = 0
    run_us: int = 0
    blob: BlobRef | None = None
    cached: bool = False


@quick
@dataclass(frozen=True, slots=True)
class RowError:
    """The error of one row (index over the frame): code of the closed list, sentence, retry hint in ms."""

    row: int
    code: str
    message: str
    retry_after_ms: int = 0


@quick
@dataclass(frozen=True, slots=True)
class InferenceFrame(Spliced):
    """Requests of one source partition on their way through the stages.

    Columns (bytes, little-endian, one entry per row): ``offsets`` int64, ``gaps`` int32 (offsets just before the row
    that hold no request), ``received_us`` int64 (broker timestamp), ``deadlines_us`` int64, ``priorities`` uint8,
    ``statuses`` uint8 (index into ``streams.columns.STATUSES``), ``roles`` uint8 (0 primary, 1 shadow, 2 hedge),
    ``row_items`` uint16, ``tenant_index`` uint16 into ``tenants``, ``id_lengths`` uint8 into the concatenated UTF-8
    ``ids``, ``key_lengths`` uint16 into the concatenated UTF-8 ``routing_keys`` (0 = none), ``input_digests`` 16 bytes
    (``streams.cache.keys``; zeros where the row's answer is not cached), or None where no row's is.

    ``attempt``: how often the rows were tried before; those of ``inference.retries`` are not routed before
    ``not_before_us``, and ``errors`` holds what each failed with.

    ``wire``: the Avro bytes of tenants, errors, columns, attempt and ``not_before_us``.
    """

    frame_id: int
    created_us: int
    topic_id: bytes
    partition: int
    memory_sequence: int
    admitted_us: int
    routed_us: int
    executed_us: int
    segments: tuple[Segment, ...]
    tenants: tuple[str, ...]
    errors: tuple[RowError, ...]
    offsets: bytes
    gaps: bytes
    received_us: bytes
    deadlines_us: bytes
    priorities: bytes
    statuses: bytes
    roles: bytes
    row_items: bytes
    tenant_index: bytes
    id_lengths: bytes
    ids: bytes
    key_lengths: bytes
    routing_keys: bytes
    input_digests: bytes | None = None
    attempt: int = 0
    not_before_us: int = 0
