"""Composition of the processes that are neither data plane nor agents: provisioning and the registry."""

from __future__ import annotations

import logging

from infra import registry as registry_server
from infra.declaration import declare
from infra.roles import RoleContext
from streams.codec import Codec
from streams.provision import provision as provision_broker

log = logging.getLogger(__name__)


async def provision(context: RoleContext) -> None:
    """Create topics, check their settings, register schemas, declare the environment; ends when done."""
    settings = context.settings
    done = await provision_broker(context.connection, partitions=settings.partitions, lanes=settings.num_lanes)
    await declare(context.connection, Codec(done.schema_ids), settings)
    log.info("%d topics created, %d schemas registered", len(done.created), done.num_registered)


async def registry(context: RoleContext) -> None:
    """Serve the schemas over HTTP."""
    settings = context.settings
    await registry_server.run(context.connection, settings.registry_port, context.ready, settings.registry_host)
