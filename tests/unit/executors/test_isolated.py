"""A session in another process answers like one here; what kills it is an error of that row alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from executors.isolated import IsolatedSession
from executors.session import ExecutionError, LoadError, ModelSession
from infra.bench.models import bench_model


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedSession]:
    session = IsolatedSession(*bench_model("bench-00", 0), "cpu")
    yield session
    session.close()


def inputs(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 256), value, np.float32)}


def test_it_answers_as_the_session_itself(isolated: IsolatedSession) -> None:
    here = ModelSession.load(*bench_model("bench-00", 0), "cpu", warm=False)
    assert (isolated.run(inputs())["y"] == here.run(inputs())["y"]).all()
    assert (isolated.provider, isolated.profile.max_batch_size) == (here.provider, 1)


def test_what_the_session_refuses_is_refused(isolated: IsolatedSession) -> None:
    with pytest.raises(ExecutionError) as caught:
        isolated.run({"x": np.zeros((1, 3), np.float32)})
    assert caught.value.code == "wrong_shape"
    assert isolated.run(inputs())["y"].shape == (1, 10)


def test_a_row_whose_process_dies_fails_and_the_next_one_is_answered(isolated: IsolatedSession) -> None:
    assert isolated._child is not None
    child = isolated._child.pid
    os.kill(child, signal.SIGSTOP)  # so that it dies while it has the row
    asked = isolated._child
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ExecutionError) as caught:
        isolated.run(inputs())
    assert caught.value.code == "execution_failed"
    assert asked.poll() == -signal.SIGKILL
    assert isolated.run(inputs())["y"].shape == (1, 10)


def test_what_cannot_be_loaded_is_said() -> None:
    _, facts = bench_model("bench-00", 0)
    with pytest.raises(LoadError):
        IsolatedSession(b"no model", facts, "cpu")
