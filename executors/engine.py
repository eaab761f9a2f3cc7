"""Three ways to run an ONNX Runtime session on a batch; all take and give numpy arrays.

``PlainRun`` hands arrays to the session and lets it allocate: the cheapest on a CPU, where it reads them where they
are. ``ValueRun`` is for BF16, which numpy has no type for. ``BoundRun`` keeps buffers on the device, one set per bucket
of batch sizes, so that nothing is allocated per batch and a bucket's kernels can be replayed as one CUDA graph.

They call the session's inner object: the wrapper around it checks names and types once more at each run, and falls back
to the CPU by itself when a GPU fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

# Before the library itself: it switches telemetry off.
from executors.runtime import CPU  # isort: skip
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import OrtValue

from executors.signature import signature_of
from schemas.model import TensorSpec
from streams.tensors import BF16, BYTES, WIRE_DTYPES, count_of

Array = NDArray[Any]

MAX_SETS: Final = 32
"""Sets of buffers that a bound session keeps; with free axes each combination of lengths is a set."""

_ONNX_BF16: Final = 16


class Engine(Protocol):
    """Runs batches; in several threads at once where it is ``reentrant``."""

    @property
    def reentrant(self) -> bool:
        """Whether runs share no buffers."""

    def run(self, feed: Mapping[str, Array], num_items: int) -> Sequence[Array]:
        """Outputs in the session's order for its inputs by name. Raises what ONNX Runtime raises."""
        ...


class PlainRun:
    """Arrays in, arrays out."""

    __slots__ = ("_names", "_run")
    reentrant = True

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._run = session._sess.run
        self._names = [argument.name for argument in session.get_outputs()]

    def run(self, feed: Mapping[str, Array], num_items: int) -> Sequence[Array]:
        """See ``Engine``."""
        del num_items
        made: Sequence[Array] = self._run(self._names, feed, None)
        return made


class ValueRun:
    """Values of ONNX Runtime in, values out: BF16 goes as uint16 with its true type beside it."""

    __slots__ = ("_bf16", "_names", "_run")
    reentrant = True

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._run = session._sess.run_with_ort_values
        self._names = [argument.name for argument in session.get_outputs()]
        self._bf16 = {spec.name for spec in signature_of(session.get_inputs()) if spec.datatype == BF16}

    def run(self, feed: Mapping[str, Array], num_items: int) -> Sequence[Array]:
        """See ``Engine``."""
        del num_items
        values = {name: _value(array, name in self._bf16) for name, array in feed.items()}
        made = self._run({name: value._ortvalue for name, value in values.items()}, self._names, None)
        return [_array(OrtValue(value)) for value in made]


def _value(array: Array, is_bf16: bool) -> OrtValue:
    """A value over an array's own memory, on the CPU."""
    array = np.ascontiguousarray(array)
    if is_bf16:
        return OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BF16)
    return OrtValue.ortvalue_from_numpy(array)


def _array(value: OrtValue) -> Array:
    """Copy of a value, BF16 as uint16."""
    if value.element_type() != _ONNX_BF16:
        made: Array = value.numpy()
        return made
    shape = value.shape()
    data = ctypes.string_at(value.data_ptr(), 2 * count_of(shape))
    return np.frombuffer(data, np.uint16).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Buffers of one bucket. ``staged``: inputs on the host; ``outputs``: None where the session allocates."""

    binding: Any
    staged: dict[str, Array]
    inputs: dict[str, OrtValue]
    outputs: list[OrtValue | None]
    results: list[Array | None]
    options: Any


class BoundRun:
    """Buffers per bucket on ``device`` (``cpu`` or ``cuda``), of fixed-width datatypes but BF16.

    A batch is padded with zeros to the next of ``buckets``, a larger one is a bucket by itself. ``graphs``: the session
    was made to capture CUDA graphs (see ``can_capture``), and captures one per bucket at its first run.
    """

    __slots__ = ("_buckets", "_device", "_graphs", "_inputs", "_outputs", "_session", "_sets")
    reentrant = False

    def __init__(
        self, session: onnxruntime.InferenceSession, device: str, buckets: Sequence[int], *, graphs: bool = False
    ) -> None:
        self._session = session
        self._device = device
        self._buckets = tuple(buckets)
        self._inputs = signature_of(session.get_inputs())
        self._outputs = signature_of(session.get_outputs())
        self._graphs = graphs
        self._sets: dict[tuple[int, tuple[tuple[int, ...], ...]], _Buffers] = {}

    def run(self, feed: Mapping[str, Array], num_items: int) -> Sequence[Array]:
        """See ``Engine``."""
        size = next((bucket for bucket in self._buckets if bucket >= num_items), num_items)
        shapes = tuple([feed[spec.name].shape[1:] for spec in self._inputs])
        key = (size, shapes)
        buffers = self._sets.pop(key, None) or self._allocate(size, shapes)
        self._sets[key] = buffers  # the last used stands last
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]
        for name, staged in buffers.staged.items():
            staged[:num_items] = feed[name]
            staged[num_items:] = 0
            if self._device != "cpu":
                buffers.inputs[name].update_inplace(staged)
        self._session._sess.run_with_iobinding(buffers.binding._iobinding, buffers.options)
        if self._device != "cpu":
            buffers.binding.synchronize_outputs()
        return self._taken(buffers, size, num_items)

    def _taken(self, buffers: _Buffers, size: int, num_items: int) -> list[Array]:
        made: list[Array] = []
        fresh = None
        for at, (value, result) in enumerate(zip(buffers.outputs, buffers.results, strict=True)):
            if result is not None:
                made.append(result[:num_items].copy())
            elif value is not None:
                made.append(value.numpy()[:num_items])
            else:
                fresh = fresh or buffers.binding.get_outputs()
                whole = fresh[at].numpy()
                made.append(whole[:num_items] if whole.shape[:1] == (size,) else whole)
        return made

    def _allocate(self, size: int, shapes: Sequence[tuple[int, ...]]) -> _Buffers:
        binding = self._session.io_binding()
        staged, inputs = {}, {}
        for spec, shape in zip(self._inputs, shapes, strict=True):
            staged[spec.name] = np.zeros((size, *shape), WIRE_DTYPES[spec.datatype])
            inputs[spec.name] = self._place(staged[spec.name])
            binding.bind_ortvalue_input(spec.name, inputs[spec.name])
        outputs: list[OrtValue | None] = []
        results: list[Array | None] = []
        for spec in self._outputs:
            value, result = self._room(spec, size)
            outputs.append(value)
            results.append(result)
            if value is None:
                binding.bind_output(spec.name, "cpu")
            else:
                binding.bind_ortvalue_output(spec.name, value)
        return _Buffers(binding, staged, inputs, outputs, results, self._options(size))

    def _place(self, host: Array) -> OrtValue:
        """A value on the device; on the CPU it is the array itself."""
        return OrtValue.ortvalue_from_numpy(host, self._device, 0)

    def _room(self, spec: TensorSpec, size: int) -> tuple[OrtValue | None, Array | None]:
        """Where an output of fixed item shape goes: a value, and on the CPU its array. A free one: (None, None)."""
        if -1 in spec.item_shape:
            return None, None
        shape, dtype = (size, *spec.item_shape), WIRE_DTYPES[spec.datatype]
        if self._device == "cpu":
            result: Array = np.zeros(shape, dtype)
            return OrtValue.ortvalue_from_numpy(result), result
        return OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, self._device, 0), None

    def _options(self, size: int) -> Any:
        """Run options: the graph of this bucket; none (-1) for other sizes."""
        if not self._graphs:
            return None
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(size) if size in self._buckets else "-1")
        return options


def can_capture(session: onnxruntime.InferenceSession) -> bool:
    """Whether a session may be one that captures graphs.

    A captured run reads and writes the addresses of its first run: only buffers that stay are safe, so ``BoundRun``
    must be its engine, and with free axes there would be a graph per combination of lengths.
    """
    specs = (*signature_of(session.get_inputs()), *signature_of(session.get_outputs()))
    return not any(-1 in spec.item_shape or spec.datatype in (BYTES, BF16) for spec in specs)


def engine_of(session: onnxruntime.InferenceSession, buckets: Sequence[int], *, graphs: bool = False) -> Engine:
    """The engine for a session: bound on a GPU, plain on a CPU, by values where a tensor is BF16.

    ValueError where a tensor is BF16 and an input BYTES: the runtime takes no texts beside values.
    """
    inputs = {spec.datatype for spec in signature_of(session.get_inputs())}
    datatypes = inputs | {spec.datatype for spec in signature_of(session.get_outputs())}
    if BF16 in datatypes:
        if BYTES in inputs:
            raise ValueError("a model with inputs of BYTES and tensors of BF16 is not served")
        return ValueRun(session)
    if session.get_providers()[0] == CPU or BYTES in datatypes:
        return PlainRun(session)
    return BoundRun(session, "cuda", buckets, graphs=graphs)
