"""Faust's consumer in the app's own event loop, where the driver runs it in a thread with a second loop.

The driver hands each fetch, commit and rebalance from loop to loop through a queue and a pipe, keeps both loops awake
with timers, and makes four tasks per record to be able to give up waiting for a full stream. That was about half of
what a frame cost a stage. Here calls are plain awaits, and a record that a stream can take is handed to it directly.
Group, assignment, streams, acknowledgement and commits stay Faust's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from mode import Service

log = logging.getLogger("faust.isos")  # as loud as Faust's own services

POLL_S: Final = 1.0
"""Longest wait for records before the flow is looked at again."""


class RewindingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """The client, which goes back to the log's start where nothing is committed.

    Upstream leaves such a position where it is. Faust goes back for records that it fetched and threw away in a
    rebalance: in a group without a first commit they were lost.
    """

    async def seek_to_committed(self, *partitions: Any) -> dict[Any, int | None]:
        """Go back to the committed offsets (all assigned partitions by default); gives them, None where there is none.

        Offset 0 is not sought upstream either.
        """
        committed: dict[Any, int | None] = await super().seek_to_committed(*partitions)
        fresh = [place for place, offset in committed.items() if not offset]
        if fresh:
            await self.seek_to_beginning(*fresh)
        return committed


class LoopConsumerThread(driver.AIOKafkaConsumerThread):
    """The driver's "thread" as a service of the loop that everything else runs in.

    The consumer that it makes assigns by range, so that partition 0 of all of an agent's one-partition topics goes to
    the same instance, and waits ``fetch_max_wait_ms`` of the transport in an idle fetch.
    """

    logger = log
    wait_for_shutdown = False

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)

    # What the thread overrides of a service, and a service in the loop does not need otherwise.
    start = Service.start
    maybe_start = Service.maybe_start
    stop = Service.stop
    crash = Service.crash  # type: ignore[assignment] # the argument has another name
    set_shutdown = Service.set_shutdown
    _stopped_set = Service._stopped_set
    _stop_children = Service._stop_children
    _stop_futures = Service._stop_futures
    _stop_exit_stacks = Service._stop_exit_stacks

    @Service.task
    async def _thread_keepalive(self) -> None:
        """Nothing: the loop needs no waking."""

    async def on_stop(self) -> None:
        """Leave the group and close the connections."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``fun``, a function or a coroutine function, here."""
        result = fun(*args, **kwargs)
        return await result if isinstance(result, Awaitable) else result

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Tell Faust what is taken away."""
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Tell Faust what is held from now on."""
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        conf = self.app.conf
        return RewindingConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=transport.app.fetch_max_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )


class LoopConsumer(driver.Consumer):
    """The driver's consumer over the above."""

    logger = log

    def _new_consumer_thread(self) -> LoopConsumerThread:
        return LoopConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand records to the streams until this or the ``fetcher`` stops."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)  # a fetch that answers at once must not starve the others
                async for place, message in self.getmany(timeout=POLL_S):
                    await self._deliver(place, message)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _deliver(self, place: Any, message: Any) -> None:
        """Hand one record over; a stream that is full or stopped is waited for only as long as the flow lasts."""
        read, offset = self._read_offset[place], message.offset
        if read is not None and offset < read:
            return
        if read and offset - read > 1 and self.app.topics.acks_enabled_for(message.topic):
            await self._add_gap(place, read + 1, offset)
        if self._flows(place):
            await self.callback(message)
        else:
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        self._read_offset[place] = offset

    def _flows(self, place: Any) -> bool:
        """Whether nothing can keep the streams of a partition from taking a record now."""
        topics: Any = self.app.topics
        return (
            self.flow_active
            and bool(self.app.flow_control.is_active())
            and not any(channel.queue.full() for channel in topics._tp_index[place])
        )


class LoopTransport(driver.Transport):
    """The driver's transport with the consumer above."""

    Consumer = LoopConsumer


def member_of(app: Any) -> str:
    """The app's member id in its consumer group, once partitions were assigned."""
    member: str = app.consumer._thread._consumer._coordinator.member_id
    return member
