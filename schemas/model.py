"""Facts about a registered model version, as they stand in memory and in commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Signature of one tensor: ``item_shape`` excludes the batch axis, -1 is a free axis."""

    name: str
    datatype: str
    item_shape: tuple[int, ...]
    allow_nan: bool = False


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version: content digest (SHA-256 hex), size, the public signature and what runs around the session.

    ``inputs`` and ``outputs`` are what clients send and get. ``preprocess`` and ``postprocess`` name kernels of
    ``executors.kernels`` in order, e.g. ``scale_u8``, ``softmax``, ``top_k:3``. ``ordered``: OK results of a routing
    key stand in the order of its requests (``streams.key_order``). ``variant_of``: the version that it may serve in
    place of where rows are too many, as a cheaper form of it (int8 weights, say); empty for none.
    """

    model: str
    version: str
    digest: str
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: tuple[str, ...] = ()
    postprocess: tuple[str, ...] = ()
    max_batch_size: int = 128
    deterministic: bool = True
    ordered: bool = False
    variant_of: str = ""
