"""The models that the integration tests' whole stack serves, and how they get there."""

from __future__ import annotations

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.registration import Registrar
from infra.settings import Settings
from schemas.model import TensorSpec
from streams.connection import Connection
from tests.support.models import identity, version_of

MODEL = "bench-00"
"""FP32 [n, 256] to [n, 10]; NaN and infinity are forbidden."""

BYTES_MODEL = "digits"
"""``x`` UINT8 [n, 4] to ``y`` FP32 [n, 4], unchanged; what tests/support/foreign_client.py asks for."""


async def register_models(settings: Settings) -> None:
    """Register both and wait for their plans."""
    blob = identity(4)
    facts = version_of(blob, (TensorSpec("x", "UINT8", (4,)),), preprocess=("scale_u8:1",), name=BYTES_MODEL)
    async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir)) as registrar:
        await registrar.register(*bench_model(MODEL, 0))
        await registrar.register(blob, facts)
