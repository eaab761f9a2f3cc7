"""The synchronous face: the same answers, from several threads, beside a running loop; closing, Ctrl-C."""

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from streams.client.answer import Answer, NoResultError, RequestRejectedError
from streams.client.request import Request
from streams.client.sync import SyncClient
from streams.connection import UnreachableError
from tests.support.loopback_client import LoopbackClient

X = {"x": np.ones((1, 1))}


class Looped(SyncClient):
    """A synchronous client over a log that is a list."""

    def __init__(self, **options):
        super().__init__("nowhere")
        self.max_in_flight = options.get("max_in_flight", self.max_in_flight)
        self._make = lambda: LoopbackClient(**options)

    @property
    def inner(self):
        return self._running.client


def test_the_same_answers_and_errors():
    with Looped() as isos:
        assert isos.infer("m", X, timeout_ms=100).outputs["x"].tolist() == [[1.0]]
        with pytest.raises(RequestRejectedError):
            isos.infer("refuse", X)
        assert isos.submit(Request("refuse", X)).result.status == "REJECTED"
        assert isos.exchange(b"garbage").result.error.code == "garbage"
        with pytest.raises(NoResultError):
            isos.infer("silent", X, wait_s=0.01)
        assert len(isos.infer_many([Request("m", X)] * 30)) == 30
        mixed = [Request("m", X), Request("refuse", X)]
        assert [type(each) for each in isos.infer_many(mixed, return_exceptions=True)] == [Answer, RequestRejectedError]
        assert [each.result.status for each in isos.submit_many(mixed)] == ["OK", "REJECTED"]


@pytest.mark.parametrize("ordered", [False, True])
def test_streams_take_requests_as_there_is_room(ordered):
    taken = []

    def counted():
        for number in range(20):
            taken.append(number)
            yield Request("m", {"x": np.full((1, 1), number)})

    with Looped(max_in_flight=4) as isos:
        answers = isos.stream(counted(), ordered=ordered)
        first = next(answers)
        assert len(taken) == 4
        found = [int(answer.outputs["x"][0, 0]) for answer in (first, *answers)]
    assert (found if ordered else sorted(found)) == list(range(20))


def test_a_stream_left_early_gives_the_rest_up():
    with Looped() as isos:
        answers = isos.stream([Request("m", X), Request("silent", X), Request("silent", X)])
        next(answers)
        answers.close()
        isos.infer("m", X)  # the loop has had its turn since
        assert len(isos.inner._calls) == 0
        with pytest.raises(NoResultError):
            list(isos.stream([Request("silent", X)], wait_s=0.01))
        (found,) = isos.stream([Request("silent", X)], wait_s=0.01, return_exceptions=True)
        assert isinstance(found, NoResultError)


def test_from_several_threads():
    with Looped(max_in_flight=8) as isos, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(isos.infer, "m", {"x": np.full((1, 1), number)}) for number in range(200)]
        assert [int(each.result().outputs["x"][0, 0]) for each in futures] == list(range(200))


async def test_beside_a_running_loop():
    with Looped() as isos:
        assert isos.infer("m", X).ok


def test_not_open_and_closed():
    isos = Looped()
    with pytest.raises(UnreachableError, match="with SyncClient"):
        isos.infer("m", X)
    isos.open()
    isos.open()
    inner = isos.inner
    isos.close()
    isos.close()
    assert inner.shut
    with pytest.raises(UnreachableError, match="with SyncClient"):
        isos.infer("m", X)
    with isos:
        assert isos.infer("m", X).ok


def test_no_thread_is_left():
    before = threading.active_count()
    with Looped() as isos:
        isos.infer("m", X)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_closing_ends_the_calls_of_other_threads():
    isos = Looped().open()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(isos.infer, "silent", X)
        while not len(isos.inner._calls):
            time.sleep(0.001)
        isos.close()
        with pytest.raises(UnreachableError, match="the client was closed"):
            waiting.result(10)


def test_a_connection_that_fails_is_said_and_leaves_no_thread():
    class Away(LoopbackClient):
        async def __aenter__(self):
            raise UnreachableError("connecting", "nobody answers")

    before = threading.active_count()
    isos = SyncClient("nowhere")
    isos._make = Away
    with pytest.raises(UnreachableError, match="nobody answers"):
        isos.open()
    assert threading.active_count() == before


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where these tests run in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_gives_the_call_up_and_leaves_the_client_usable():
    with Looped() as isos:
        timer = threading.Thread(target=interrupt_when_waiting, args=(isos.inner,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            isos.infer("silent", X)
        timer.join()
        assert isos.infer("m", X).ok
        assert len(isos.inner._calls) == 0


def interrupt_when_waiting(client):
    """Ctrl-C as the terminal sends it, once the call is open and the main thread waits for it."""
    main = threading.main_thread().ident
    while not len(client._calls) or sys._current_frames()[main].f_code.co_name != "wait":
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)
