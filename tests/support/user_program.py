"""A small program as a user writes it: checked by mypy --strict and run in an environment with the client only.

Copied out of this folder before it runs; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys

import numpy as np
from numpy.typing import NDArray

from isos import Answer, Client, InferenceError, Request, SyncClient

SERVER = (
    *("faust", "numba", "onnxruntime", "redis", "confluent_kafka", "pydantic", "typer", "onnx", "sklearn"),
)  # fmt: skip


def row(number: int) -> dict[str, NDArray[np.float32]]:
    return {"x": np.full((1, 256), number / 100, np.float32)}


async def asynchronous(model: str) -> list[int]:
    async with Client(tenant="wheel", max_in_flight=50) as isos:
        answer = await isos.infer(model, row(1), timeout_ms=20_000)
        many = await isos.infer_many([Request(model, row(number)) for number in range(20)])
        streamed = 0
        async for each in isos.stream(Request(model, row(number)) for number in range(20)):
            streamed += each.raise_for_status().ok
        kept = await isos.infer_many([Request("nobody-has-this", row(0))], return_exceptions=True)
        refused = sum(isinstance(each, InferenceError) for each in kept)
    return [*answer.outputs["y"].shape, len(many), streamed, refused]


def synchronous(model: str) -> list[str]:
    with SyncClient() as isos:
        answers: list[Answer] = [isos.infer(model, row(2))]
        answers += isos.infer_many([Request(model, row(3))])
        answers += isos.stream([Request(model, row(4))], ordered=True)
    return [answer.result.status for answer in answers]


def main() -> None:
    model = sys.argv[1]
    found = {
        "asynchronous": asyncio.run(asynchronous(model)),
        "synchronous": synchronous(model),
        "server": [name for name in SERVER if importlib.util.find_spec(name) is not None],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
