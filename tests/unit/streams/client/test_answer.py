"""Answers, and errors by status."""

import numpy as np
import pytest

from schemas.request import Tensor
from schemas.result import ResultError
from streams.client.answer import (
    InferenceError,
    NoResultError,
    RequestExpiredError,
    RequestFailedError,
    RequestRejectedError,
    RequestTooLargeError,
    answer_of,
)
from tests.support.client_records import result


@pytest.mark.parametrize(
    ("status", "kind"),
    [("REJECTED", RequestRejectedError), ("EXPIRED", RequestExpiredError), ("ERROR", RequestFailedError)],
)
def test_a_result_that_is_not_ok_is_an_error_with_its_code(status, kind):
    answer = answer_of(result(status=status, error=ResultError("quota_exceeded", "wait", 20)), 5)
    assert not answer.ok
    with pytest.raises(kind) as raised:
        answer.raise_for_status()
    assert (raised.value.code, raised.value.retry_after_ms, raised.value.request_id) == ("quota_exceeded", 20, "r-1")
    assert isinstance(raised.value, InferenceError)
    assert str(raised.value) == f"request r-1: {status} quota_exceeded: wait"


def test_outputs_are_read_only_arrays():
    scores = Tensor("scores", "FP32", (1, 2), np.array([1, 2], "<f4").tobytes())
    broken, unknown = Tensor("broken", "BYTES", (1,), b"a"), Tensor("codes", "QUBIT", (1,), b"a")
    words = Tensor("words", "BYTES", (2,), b"\x01\0\0\0a\0\0\0\0")
    answer = answer_of(result(outputs=(scores, broken, unknown, words)), 5)
    assert answer.raise_for_status() is answer
    assert (answer.ok, answer.error(), answer.request_id, answer.read_us) == (True, None, "r-1", 5)
    assert {name: values.tolist() for name, values in answer.outputs.items()} == {
        "scores": [[1.0, 2.0]],
        "words": [b"a", b""],
    }
    assert not answer.outputs["scores"].flags.writeable


def test_what_never_came_and_what_never_left_say_so():
    assert str(NoResultError("r", 0.5)) == "request r has no result after 0.5 s"
    too_large = RequestTooLargeError("r", 20, 10)
    assert (too_large.code, str(too_large)) == ("payload_too_large", "request r has 20 bytes, a record may have 10")
