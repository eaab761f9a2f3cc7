"""One ONNX Runtime session per model version: loaded from checked bytes, warmed, profiled, with its kernels around it.

Sessions use one thread and never spin: parallelism is processes. The provider a session reports is the one it runs on,
read from the session; what the library says is available is no evidence. CUDA is reached by provider options only and
was not run on the machine this was written on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

# Before the library itself: it switches telemetry off.
from executors.runtime import CPU, CUDA, RUNTIME_ERRORS, cuda_is_usable, sentence_of, session_options  # isort: skip
import onnxruntime

from executors.batcher import Profile
from executors.kernels.kernel import Array
from executors.kernels.pipeline import Pipeline
from schemas.model import ModelVersion, TensorSpec
from streams.errors import IsosError
from streams.tensors import WIRE_DTYPES as DTYPES

Device = Literal["auto", "cuda", "cpu"]

MAX_ROW_ITEMS: Final = 128
"""Items of the largest row; such a row runs as a batch by itself even where ``max_batch_size`` is lower."""

_PROFILE_BUDGET_S: Final = 0.3

_NO_CUDA: Final = "no usable CUDA device: models of this process run on the CPU"

_LOAD_ERRORS: Final[tuple[type[Exception], ...]] = (*RUNTIME_ERRORS, IsosError)

DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
"""ONNX Runtime's type names, by the Open Inference Protocol's; others are not served."""


class LoadError(IsosError):
    """A model version cannot be loaded on this device."""

    def __init__(self, model: str, version: str, problem: str) -> None:
        super().__init__(model, version, problem)
        self.model = model
        self.version = version
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.model} {self.version} cannot be loaded: {self.problem}"


class ExecutionError(IsosError):
    """A batch failed. ``code`` is of the closed list: ``execution_failed``, ``wrong_shape`` or ``output_invalid``."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(code, problem)
        self.code = code
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class Fallback:
    """That ``auto`` wanted CUDA and got the CPU, for whoever logs it: on the first such session of the process only."""

    wanted: str
    got: str
    sentence: str


_first_fallback: Final = iter((Fallback(CUDA, CPU, _NO_CUDA),))


def signature_of(arguments: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Signature of a session's inputs or outputs; ValueError with a sentence where it cannot be served.

    The first axis of every tensor must be free: it is the batch.
    """
    specs = []
    for argument in arguments:
        datatype = DATATYPES.get(argument.type)
        if datatype is None:
            raise ValueError(f"`{argument.name}` has the type {argument.type}, which is not served")
        shape = list(argument.shape)
        if not shape or isinstance(shape[0], int):
            raise ValueError(f"`{argument.name}` has the shape {shape}; its first axis must be free (the batch)")
        specs.append(TensorSpec(argument.name, datatype, tuple(a if isinstance(a, int) else -1 for a in shape[1:])))
    return tuple(specs)


def fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    """Whether an item shape is one that a spec allows (-1 in the spec is any length)."""
    return len(shape) == len(spec.item_shape) and all(
        want in (-1, have) for want, have in zip(spec.item_shape, shape, strict=True)
    )


class ModelSession:
    """A loaded version. ``provider`` is the truth, ``profile`` the measured t(n), ``fallback`` set if auto fell back.

    Not safe for threads. Build with ``load``.
    """

    __slots__ = (
        "_input_names",
        "_output_names",
        "_post",
        "_pre",
        "_session",
        "fallback",
        "model",
        "profile",
        "provider",
    )

    def __init__(self, session: onnxruntime.InferenceSession, model: ModelVersion, fallback: Fallback | None) -> None:
        self._session = session
        self.model = model
        self.provider: str = session.get_providers()[0]
        self.fallback = fallback
        self._pre = Pipeline(model.inputs, model.preprocess)
        self._post = Pipeline(signature_of(session.get_outputs()), model.postprocess)
        self._input_names = [argument.name for argument in session.get_inputs()]
        self._output_names = [argument.name for argument in session.get_outputs()]
        self.profile = Profile(0.0, 0.0, model.max_batch_size)

    @classmethod
    def load(cls, blob: bytes, model: ModelVersion, device: Device = "auto", warm: bool = True) -> ModelSession:
        """Create the session from bytes, warm its buckets and profile it. Raises LoadError.

        Blocks, and holds the GIL while the session is created: not inside a serving loop.
        """
        try:
            session, fallback = _create(blob, device)
            loaded = cls(session, model, fallback)
            if warm:
                loaded.warm()
        except _LOAD_ERRORS as error:
            raise LoadError(model.model, model.version, sentence_of(error)) from error
        return loaded

    def warm(self) -> None:
        """Run every bucket once (kernels, allocator and shapes), then measure t(n)."""
        for size in self.buckets():
            self.run(self._blank(size))
        self.profile = self._measure()

    def buckets(self) -> tuple[int, ...]:
        """Batch sizes to warm: powers of two below the maximum, and the maximum."""
        top = self.model.max_batch_size
        return (*(1 << power for power in range(max(top - 1, 0).bit_length())), top)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch: public inputs ``[n, *item_shape]`` in, public outputs ``[n, ...]`` out, by name.

        Inputs are only read. Outputs are new arrays, C-contiguous, the caller's. Raises ExecutionError.
        """
        num_items = self._check(inputs)
        feed = self._pre.run(inputs, owned=False) if self.model.preprocess else inputs
        try:
            raw = self._session.run(self._output_names, {name: feed[name] for name in self._input_names})
        except RUNTIME_ERRORS as error:
            raise ExecutionError("execution_failed", sentence_of(error)) from error
        made: dict[str, Array] = dict(zip(self._output_names, raw, strict=True))
        for spec in self._post.before:
            if made[spec.name].shape[:1] != (num_items,) or not fits(spec, made[spec.name].shape[1:]):
                shape = list(made[spec.name].shape)
                raise ExecutionError("output_invalid", f"`{spec.name}` came out as {shape} for {num_items} items")
        return self._post.run(made, owned=True) if self.model.postprocess else made

    def _check(self, inputs: Mapping[str, Array]) -> int:
        """Number of items; ExecutionError where the arrays are not of the signature."""
        num_items = -1
        for spec in self._pre.before:
            array = inputs.get(spec.name)
            if array is None or array.dtype != DTYPES[spec.datatype] or not fits(spec, array.shape[1:]):
                raise ExecutionError("wrong_shape", f"`{spec.name}` must be {spec.datatype} [n, {spec.item_shape}]")
            if num_items not in (-1, array.shape[0]):
                raise ExecutionError("wrong_shape", "the inputs differ in their number of items")
            num_items = array.shape[0]
        if not 1 <= num_items <= max(self.model.max_batch_size, MAX_ROW_ITEMS):
            raise ExecutionError("batch_too_large", f"{num_items} items in one batch")
        return num_items

    def _blank(self, size: int) -> dict[str, Array]:
        """Zeros for every public input; free axes get length 1."""
        return {
            spec.name: np.zeros((size, *(1 if axis < 0 else axis for axis in spec.item_shape)), DTYPES[spec.datatype])
            for spec in self.model.inputs
        }

    def _measure(self) -> Profile:
        """Least squares of t(n) = a + c n over the best time per bucket, within a time budget; both at least 0."""
        stop = time.perf_counter() + _PROFILE_BUDGET_S
        sizes = sorted({1, self.model.max_batch_size, max(1, self.model.max_batch_size // 4)})
        best = dict.fromkeys(sizes, math.inf)
        for _ in range(20):
            for size in sizes:
                blank = self._blank(size)
                start = time.perf_counter_ns()
                self.run(blank)
                best[size] = min(best[size], (time.perf_counter_ns() - start) / 1000)
            if time.perf_counter() > stop:
                break
        if len(sizes) == 1:
            return Profile(best[sizes[0]], 0.0, self.model.max_batch_size)
        times = np.array([best[size] for size in sizes])
        per_item, fixed = np.polyfit(sizes, times, 1, w=1 / times)  # relative error: small batches count too
        return Profile(max(float(fixed), 0.0), max(float(per_item), 0.0), self.model.max_batch_size)


def _create(blob: bytes, device: Device) -> tuple[onnxruntime.InferenceSession, Fallback | None]:
    options = session_options()
    if device == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    wanted = [CUDA, CPU] if device == "auto" and cuda_is_usable() else [CUDA if device == "cuda" else CPU]
    session = onnxruntime.InferenceSession(blob, options, providers=wanted)
    got: str = session.get_providers()[0]
    if device == "cuda" and got != CUDA:
        raise RuntimeError(f"device `cuda` was asked for, and the session runs on {got}")
    if device == "auto" and got != CUDA:
        return session, next(_first_fallback, None)
    return session, None
