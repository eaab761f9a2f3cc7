"""One loaded model version: kernels, engine, kernels; warmed bucket by bucket and profiled.

Sessions use one thread and never spin: parallelism is processes. On a CPU a batch runs at its own size: its time grows
with every item, so that padding only costs. On a GPU it is padded to a bucket whose buffers and graph are there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

# Before the library itself: it switches telemetry off.
from executors.runtime import CPU, PERMANENT_ERRORS, RUNTIME_ERRORS, sentence_of  # isort: skip
import numpy as np
import onnxruntime

from executors.engine import Engine, can_capture, engine_of
from executors.kernels.kernel import Array, KernelError
from executors.kernels.pipeline import Pipeline
from executors.profile import Profile
from executors.provider import Device, Fallback, create, create_best
from executors.signature import blank, dtype_of, fits, signature_of
from schemas.model import ModelVersion, TensorSpec
from streams.errors import IsosError

MAX_ROW_ITEMS: Final = 128
"""Items of the largest row; such a row runs as a batch by itself even where ``max_batch_size`` is lower."""

_PROFILE_BUDGET_S: Final = 0.3
_WARM_RUN_S: Final = 0.1
_WARM_GROWTH: Final = 1.5
"""On a CPU no larger batch is warmed behind one that took so long and so much longer than half of it: all sizes up to
128 items at 80 ms kept a model from serving for half a minute, and batches of such a model are small."""

_LOAD_ERRORS: Final[tuple[type[Exception], ...]] = (*RUNTIME_ERRORS, IsosError)
_RUN_ERRORS: Final[tuple[type[Exception], ...]] = (*RUNTIME_ERRORS, KernelError)


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
    """A batch failed. ``code`` is of the closed list: ``execution_failed``, ``wrong_shape`` or ``output_invalid``.

    ``transient``: the same batch may run another time, or elsewhere.
    """

    def __init__(self, code: str, problem: str, *, transient: bool = False) -> None:
        super().__init__(code, problem)
        self.code = code
        self.problem = problem
        self.transient = transient

    def __str__(self) -> str:
        return self.problem


class Session(Protocol):
    """What runs batches of a model version, in this process or in another one."""

    @property
    def model(self) -> ModelVersion:
        """The version's facts."""

    @property
    def provider(self) -> str:
        """What it really runs on."""

    @property
    def reentrant(self) -> bool:
        """Whether two threads may run batches at once."""

    @property
    def profile(self) -> Profile:
        """How long batches take, as measured at load."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch, see ``ModelSession.run``."""


class ModelSession:
    """A loaded version. ``provider`` is the truth, ``profile`` the measured t(n), ``fallback`` set if auto fell back.

    Safe for threads where it is ``reentrant``. Build with ``load``.
    """

    __slots__ = (
        "_engine",
        "_inputs",
        "_max_items",
        "_outputs",
        "_post",
        "_pre",
        "_session",
        "fallback",
        "model",
        "profile",
        "provider",
        "reentrant",
    )

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        model: ModelVersion,
        fallback: Fallback | None = None,
        *,
        graphs: bool = False,
        engine: Engine | None = None,
    ) -> None:
        self._session = session
        self.model = model
        self.provider: str = session.get_providers()[0]
        self.fallback = fallback
        self._engine = engine or engine_of(session, self.buckets(), graphs=graphs)
        self._pre = Pipeline(model.inputs, model.preprocess, reuse=True) if model.preprocess else None
        self.reentrant: bool = self._engine.reentrant and self._pre is None
        made = signature_of(session.get_outputs())
        self._post = Pipeline(made, model.postprocess) if model.postprocess else None
        self._max_items = max(model.max_batch_size, MAX_ROW_ITEMS)
        self._inputs = [_Wanted(spec) for spec in model.inputs]
        self._outputs = [_Wanted(spec) for spec in made]
        self.profile = Profile(0.0, 0.0, model.max_batch_size)

    @classmethod
    def load(cls, blob: bytes, model: ModelVersion, device: Device = "auto", warm: bool = True) -> ModelSession:
        """Create the session from bytes, warm its buckets and profile it. Raises LoadError.

        Blocks, and holds the GIL while the session is created: not inside a serving loop.
        """
        try:
            session, fallback, graphs = create_best(blob, device)
            if graphs and not can_capture(session):
                session, graphs = create(blob, device)[0], False
            loaded = cls(session, model, fallback, graphs=graphs)
            if warm and not loaded._warm_captured(graphs):
                # The first run is the capture, and not every model that loads can be captured.
                loaded = cls(*_plain(blob, model, device, fallback))
                loaded.warm()
        except _LOAD_ERRORS as error:
            raise LoadError(model.model, model.version, sentence_of(error)) from error
        return loaded

    def _warm_captured(self, graphs: bool) -> bool:
        """Warm; False where that failed and a session without graphs may do better."""
        try:
            self.warm()
        except _LOAD_ERRORS:
            if graphs:
                return False
            raise
        return True

    def warm(self) -> None:
        """Run every bucket once (kernels, allocator, shapes, graphs) as far as that is short, then measure t(n)."""
        largest, before_s = 1, math.inf
        for largest in self.buckets():
            took_s = self._time_s(largest)
            if self.provider == CPU and took_s > max(_WARM_RUN_S, _WARM_GROWTH * before_s):
                break
            before_s = took_s
        self.profile = self._measure(largest)

    def buckets(self) -> tuple[int, ...]:
        """Batch sizes to warm: powers of two below the maximum, and the maximum."""
        top = self.model.max_batch_size
        return (*(1 << power for power in range(max(top - 1, 0).bit_length())), top)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch: public inputs ``[n, *item_shape]`` in, public outputs ``[n, ...]`` out, by name.

        Inputs are only read; BYTES are ``str`` objects, BF16 is uint16. Outputs are new arrays, C-contiguous, the
        caller's. Raises ExecutionError.
        """
        num_items = self._check(inputs)
        try:
            feed = inputs if self._pre is None else self._pre.run(inputs, owned=False)
            raw = self._engine.run(feed, num_items)
        except _RUN_ERRORS as error:
            transient = not isinstance(error, (*PERMANENT_ERRORS, KernelError))
            raise ExecutionError("execution_failed", sentence_of(error), transient=transient) from error
        made: dict[str, Array] = {}
        for wanted, array in zip(self._outputs, raw, strict=True):
            name, item_shape = wanted.name, wanted.item_shape
            shape = array.shape
            if shape != (num_items, *item_shape) if item_shape is not None else not wanted.takes(shape, num_items):
                raise ExecutionError("output_invalid", f"`{name}` came out as {list(shape)} for {num_items} items")
            made[name] = array
        return made if self._post is None else self._post.run(made, owned=True)

    @property
    def bare_run(self) -> Callable[..., Any]:
        """``run`` of ONNX Runtime's session itself, without kernels: what benchmarks compare with."""
        run: Callable[..., Any] = self._session.run
        return run

    def blanks(self, size: int) -> dict[str, Array]:
        """Blanks for every public input."""
        return {spec.name: blank(spec, size) for spec in self.model.inputs}

    def _check(self, inputs: Mapping[str, Array]) -> int:
        """Number of items; ExecutionError where the arrays are not of the signature."""
        num_items = -1
        for wanted in self._inputs:
            array, item_shape = inputs.get(wanted.name), wanted.item_shape
            if array is None or array.dtype != wanted.dtype:
                raise wanted.refusal()
            count, shape = len(array), array.shape
            if shape != (count, *item_shape) if item_shape is not None else not wanted.takes(shape, count):
                raise wanted.refusal()
            if count != num_items != -1:
                raise ExecutionError("wrong_shape", "the inputs differ in their number of items")
            num_items = count
        if not 1 <= num_items <= self._max_items:
            raise ExecutionError("batch_too_large", f"{num_items} items in one batch")
        return num_items

    def _time_s(self, num_items: int) -> float:
        blanks = self.blanks(num_items)
        start = time.perf_counter()
        self.run(blanks)
        return time.perf_counter() - start

    def _measure(self, largest: int) -> Profile:
        """Least squares of t(n) = a + c n over the best times of batches of at most ``largest``; both at least 0."""
        stop = time.perf_counter() + _PROFILE_BUDGET_S
        sizes = sorted({1, largest, max(1, largest // 4)})
        best = dict.fromkeys(sizes, math.inf)
        for _ in range(20):
            for size in sizes:
                best[size] = min(best[size], self._time_s(size) * 1e6)
            if time.perf_counter() > stop:
                break
        if len(sizes) == 1:
            return Profile(best[sizes[0]], 0.0, self.model.max_batch_size)
        times = np.array([best[size] for size in sizes])
        per_item, fixed = np.polyfit(sizes, times, 1, w=1 / times)  # relative error: small batches count too
        return Profile(max(float(fixed), 0.0), max(float(per_item), 0.0), self.model.max_batch_size)


class _Wanted:
    """What an array of a spec looks like; ``item_shape``: of a fixed one, to be compared as a whole, else None."""

    __slots__ = ("dtype", "item_shape", "name", "spec")

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.dtype: np.dtype[Any] = dtype_of(spec.datatype)
        self.item_shape = None if -1 in spec.item_shape else spec.item_shape

    def takes(self, shape: tuple[int, ...], num_items: int) -> bool:
        return shape[:1] == (num_items,) and fits(self.spec, shape[1:])

    def refusal(self) -> ExecutionError:
        spec = self.spec
        return ExecutionError("wrong_shape", f"`{spec.name}` must be {spec.datatype} [n, {spec.item_shape}]")


def _plain(
    blob: bytes, model: ModelVersion, device: Device, fallback: Fallback | None
) -> tuple[onnxruntime.InferenceSession, ModelVersion, Fallback | None]:
    """What a session without graphs is made of."""
    session, later = create(blob, device)
    return session, model, fallback or later
