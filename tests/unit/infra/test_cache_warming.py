"""Inputs from files and from requests, and what became of them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from infra.cache_warming import InputCounts, Warmed, inputs_of, inputs_of_file, warm
from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.client.answer import Answer
from streams.errors import IsosError


def test_a_line_of_json_is_an_input(tmp_path: Path) -> None:
    path = tmp_path / "inputs.jsonl"
    path.write_text('[1, 2]\n\n{"x": [3]}\n')
    assert list(inputs_of_file(path)) == [{"": [1, 2]}, {"x": [3]}]
    path.write_text("[1]\nnothing\n")
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        list(inputs_of_file(path))


def test_an_item_of_arrays_is_an_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(4).reshape(2, 2))
    assert [each[""].tolist() for each in inputs_of_file(tmp_path / "x.npy")] == [[[0, 1]], [[2, 3]]]
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 1)), b=np.ones(2))
    assert [sorted(each) for each in inputs_of_file(tmp_path / "x.npz")] == [["a", "b"]] * 2
    np.savez(tmp_path / "y.npz", a=np.zeros((2, 1)), b=np.ones(3))
    with pytest.raises(ValueError, match="no common first axis"):
        list(inputs_of_file(tmp_path / "y.npz"))
    np.save(tmp_path / "z.npy", np.array(1))
    with pytest.raises(ValueError, match="no common first axis"):
        list(inputs_of_file(tmp_path / "z.npy"))


def request(value: int, model: str = "digits", *, blob: BlobRef | None = None) -> InferenceRequest:
    return InferenceRequest("r", model, (Tensor("x", "UINT8", (1, 2), bytes([value, value])),), blob=blob)


def test_the_inputs_that_came_most_often() -> None:
    counts = InputCounts("digits")
    for each in (1, 2, 2, 3, 3, 3, 1):
        counts.add(request(each))
    counts.add(request(9, "letters"))
    counts.add(request(9, blob=BlobRef("a" * 64, 2)))
    found = [(count, inputs_of(tensors)["x"].tolist()) for count, tensors in counts.most_common(2)]
    assert found == [(3, [[3, 3]]), (2, [[1, 1]])]
    assert len(counts.most_common(10)) == 3


def test_what_is_kept_of_inputs_is_bounded() -> None:
    counts = InputCounts("digits", max_bytes=4)
    for each in (1, 2, 3, 3, 3, 1):
        counts.add(request(each))
    assert [(count, tensors[0].data[0]) for count, tensors in counts.most_common(9)] == [(2, 1), (1, 2)]


class Client:
    """Answers requests with what it was given."""

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes
        self.asked: list[Any] = []

    async def stream(self, requests: Any, *, return_exceptions: bool) -> Any:
        assert return_exceptions
        for asked, outcome in zip(requests, self.outcomes, strict=True):
            self.asked.append(asked)
            yield outcome


def answer(status: str, *, cached: bool = False) -> Answer:
    error = SimpleNamespace(code="c", message="it did not work", retry_after_ms=0)
    result: Any = SimpleNamespace(
        status=status, error=error, request_id="r", provenance=SimpleNamespace(cached=cached), outputs=()
    )
    return Answer({}, result, 0)


async def test_warming_is_asking_with_the_lowest_priority() -> None:
    outcomes = [answer("OK"), answer("OK", cached=True), answer("ERROR"), IsosError("away")]
    client: Any = Client(outcomes)
    seen: list[int] = []
    done = await warm(client, "digits", [{"x": at} for at in range(4)], version="v2.0.0", progress=seen.append)
    assert re.search("it did not work", done.reason)
    assert done == Warmed(1, 1, 2, done.reason)
    assert seen == [1, 2, 3, 4]
    assert {(each.model, each.version, each.priority) for each in client.asked} == {("digits", "v2.0.0", 9)}
