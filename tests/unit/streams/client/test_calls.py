"""Whose result is whose: places, ids, early results, a topic made anew; time-outs, cancellation and turns."""

import asyncio

import pytest

from streams.client.answer import NoResultError
from streams.client.calls import Calls, expected_ids
from streams.connection import UnreachableError
from tests.support.client_records import record

OLD, NEW = b"o" * 16, b"n" * 16


async def opened(calls, name="r-1", ids=None, wait_s=30.0):
    return await calls.open(name, (name.encode(),) if ids is None else ids, wait_s)


async def sent(calls, offset, name="r-1", partition=0, **options):
    """A call whose request was acknowledged."""
    call = await opened(calls, name, **options)
    calls.sending(calls.lane(partition), 1)
    calls.placed(calls.lane(partition), [call], offset)
    return call


async def raw(calls, offset):
    """A call of a record that names no id."""
    call = await calls.open("(raw)", None, 30.0)
    calls.sending(calls.lane(0), 1)
    calls.placed(calls.lane(0), [call], offset)
    return call


def kept(calls):
    return [lane.early for lane in calls.lanes.values() if lane.early or lane.waiting or lane.num_unplaced]


async def test_a_result_is_found_by_its_place():
    calls = Calls(10)
    first, second = await sent(calls, 5), await sent(calls, 6)
    calls.take(record((0, 6), value=b"six"), 7)
    calls.take(record((1, 5), value=b"another partition"), 7)
    assert (second.future.result(), first.future.done()) == ((b"six", 7), False)
    assert len(calls) == 1


async def test_a_result_before_its_acknowledgement_is_found():
    calls = Calls(10)
    call, lane = await opened(calls), calls.lane(0)
    calls.sending(lane, 1)
    calls.take(record((0, 8), b"somebody"), 1)
    calls.take(record((0, 9)), 2)
    calls.placed(lane, [call], 9)
    assert call.future.result() == (b"value", 2)
    assert kept(calls) == []


async def test_results_of_others_are_not_kept():
    calls = Calls(10)
    calls.take(record((0, 3)), 1)
    call = await sent(calls, 5)
    calls.take(record((0, 3)), 1)
    calls.take(record((0, 5)), 1)
    assert call.future.done()
    assert kept(calls) == []


async def test_a_record_without_a_place_is_passed_over():
    calls = Calls(10)
    await sent(calls, 5)
    calls.take(type("Record", (), {"headers": (("isos-source", b"short"),)}), 1)
    assert len(calls) == 1


async def test_the_same_place_with_another_id_is_somebody_elses():
    calls = Calls(10)
    call = await sent(calls, 5)
    calls.take(record((0, 5), b"r-2"), 1)
    assert not call.future.done()
    calls.take(record((0, 5)), 2)
    assert call.future.result() == (b"value", 2)


async def test_a_late_result_of_a_deleted_topic_is_not_taken_for_the_new_ones():
    calls = Calls(10)
    before = await sent(calls, 5)
    calls.take(record((0, 5), topic_id=OLD), 1)
    again = await sent(calls, 5)  # the offset went back: the topic is a new one
    calls.take(record((0, 5), value=b"stale", topic_id=OLD), 2)
    assert (before.future.result()[1], again.future.done()) == (1, False)
    calls.take(record((0, 5), topic_id=NEW), 3)
    assert again.future.result() == (b"value", 3)


async def test_every_partition_of_a_new_topic_is_understood_as_one_change():
    calls = Calls(10)
    for partition in (0, 1):
        before = await sent(calls, 5, partition=partition)
        calls.take(record((partition, 5), topic_id=OLD), 1)
        assert before.future.done()
    for partition in (0, 1):
        again = await sent(calls, 0, partition=partition)
        calls.take(record((partition, 0), topic_id=NEW), 2)
        assert again.future.done()


async def test_a_new_topic_is_known_by_its_first_result_also_when_offsets_went_on():
    calls = Calls(10)
    await sent(calls, 5)
    calls.take(record((0, 5), topic_id=OLD), 1)
    found = await sent(calls, 9)
    calls.take(record((0, 9), topic_id=NEW), 2)
    late = await sent(calls, 10)
    calls.take(record((0, 10), topic_id=OLD), 3)
    assert (found.future.done(), late.future.done()) == (True, False)


async def test_a_raw_record_gets_results_of_the_known_topic_only():
    calls = Calls(10)
    known = await sent(calls, 5)
    calls.take(record((0, 5), topic_id=NEW), 1)
    call = await raw(calls, 6)
    calls.take(record((0, 6), b"0-6", topic_id=OLD), 2)
    assert (known.future.done(), call.future.done()) == (True, False)
    calls.take(record((0, 6), b"0-6", topic_id=NEW), 3)
    assert call.future.done()


async def test_two_calls_with_one_id_get_their_own_results():
    calls = Calls(10)
    first, second = await sent(calls, 5), await sent(calls, 5, partition=1)
    calls.take(record((1, 5), value=b"second"), 1)
    calls.take(record((0, 5), value=b"first"), 1)
    assert (first.future.result()[0], second.future.result()[0]) == (b"first", b"second")


async def test_no_result_is_a_time_out_that_names_the_request():
    calls = Calls(10)
    call, later = await sent(calls, 5, wait_s=0.01), await sent(calls, 6, wait_s=0.03)
    with pytest.raises(NoResultError, match="request r-1 has no result after 0.01 s"):
        await call.future
    with pytest.raises(NoResultError):
        await later.future
    assert len(calls) == 0
    assert kept(calls) == []


async def test_a_shorter_time_out_that_comes_later_is_kept():
    calls = Calls(10)
    await sent(calls, 5, wait_s=30)
    call = await sent(calls, 6, wait_s=0.01)
    with pytest.raises(NoResultError):
        await call.future
    assert len(calls) == 1
    calls.shut(UnreachableError("waiting", "over"))


async def test_a_call_given_up_leaves_nothing_and_its_late_result_is_dropped():
    calls = Calls(1)
    call = await sent(calls, 5)
    calls.close(call)
    calls.close(call)
    calls.take(record((0, 5)), 1)
    assert (call.future.cancelled(), len(calls), kept(calls)) == (True, 0, [])
    again = await asyncio.wait_for(opened(calls), 1)
    calls.close(again)


async def test_a_call_given_up_before_its_acknowledgement_leaves_nothing():
    calls = Calls(1)
    call, lane = await opened(calls), calls.lane(0)
    calls.sending(lane, 1)
    calls.close(call)
    calls.placed(lane, [call], 5)
    assert (len(calls), kept(calls)) == (0, [])


async def test_calls_beyond_the_limit_wait_in_turn():
    calls = Calls(1)
    first = await opened(calls)
    waiting = [asyncio.create_task(opened(calls, f"r-{number}")) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    calls.close(first)
    third = await asyncio.wait_for(waiting[1], 1)
    assert (third.name, waiting[2].done()) == ("r-3", False)
    calls.close(third)
    calls.close(await asyncio.wait_for(waiting[2], 1))
    assert len(calls) == 0
    calls.close(await opened(calls))


async def test_a_call_may_time_out_before_its_turn():
    calls = Calls(1)
    await opened(calls)
    with pytest.raises(NoResultError, match="r-2"):
        await opened(calls, "r-2", wait_s=0.01)
    assert len(calls) == 1
    calls.shut(UnreachableError("waiting", "over"))


async def test_the_end_reaches_those_under_way_and_those_in_the_queue():
    calls = Calls(1)
    first = await sent(calls, 5)
    queued = asyncio.create_task(opened(calls, "r-2"))
    await asyncio.sleep(0)
    calls.shut(UnreachableError("waiting", "over"))
    for future in (first.future, queued):
        with pytest.raises(UnreachableError, match="over"):
            await future


async def test_a_failed_write_fails_its_calls_and_forgets_early_results():
    calls = Calls(10)
    call, lane = await opened(calls), calls.lane(0)
    calls.sending(lane, 1)
    calls.take(record((0, 9)), 2)
    calls.unplaced(lane, [call], UnreachableError("sending", "away"))
    with pytest.raises(UnreachableError, match="away"):
        await call.future
    assert kept(calls) == []


@pytest.mark.parametrize(
    ("request_id", "key", "ids"),
    [
        ("r-1", b"r-1", (b"r-1",)),
        ("r-1", b"customer", (b"r-1", b"customer")),
        ("", b"", None),
        ("i" * 65, b"i" * 65, None),
        ("r-1", b"k" * 65, None),
        ("\U0001f600" * 64, b"k", None),
    ],
)
def test_the_ids_a_result_may_carry(request_id, key, ids):
    assert expected_ids(request_id, key) == ids
