"""The local stack: broker, Redis, provision step and roles, started in order, supervised, stopped in reverse.

One supervisor per data directory (a lock); what it runs stands in ``run/stack.json`` for the other commands.
``python -m infra.stack`` is the supervisor that ``isos up --detach`` leaves behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from infra.broker import broker_process, format_storage
from infra.child_environment import child_environment
from infra.executor_pool import ExecutorPool
from infra.launcher import forget_asked
from infra.pools import Pool, pools
from infra.process import Process, ProcessSpec, Ready, ready_file
from infra.redis_server import redis_process
from infra.settings import Settings, StartError, load_settings
from infra.stack_check import check_before_start
from infra.stack_state import claim, write_state

START_S: Final = 90.0
MAX_EARLY_RESTARTS: Final = 3
STOP_S: Final = 10.0  # a role finishes what it has begun, commits and leaves its groups

Report = Callable[[str, str, float], None]
"""Called with a process name, what happened to it, and the seconds since the start."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process of ours: its name (log and readiness file) and its command line."""

    name: str
    argv: tuple[str, ...]


def default_roles(settings: Settings) -> tuple[Role, ...]:
    """List the roles of the program in start order; numbers of instances come from the settings."""
    single = ("orchestrator", "control") if settings.registry_url else ("registry", "orchestrator", "control")
    instances = {
        "edge": range(settings.edges),
        "router": range(settings.routers),
        "executor": [pool.first + number for pool in pools(settings) for number in range(pool.at_start)],
        "validator": range(settings.validators),
    }
    named = [(role, role, 0) for role in single]
    named += [(f"{role}-{index}", role, index) for role, numbers in instances.items() for index in numbers]
    return tuple(
        Role(name, (sys.executable, "-m", "infra.roles", role, "--instance", str(index))) for name, role, index in named
    )


def executor_role(instance: int) -> Role:
    """The executor of an instance, started when more are wanted."""
    argv = (sys.executable, "-m", "infra.roles", "executor", "--instance", str(instance))
    return Role(f"executor-{instance}", argv)


def default_provision() -> tuple[str, ...]:
    """Give the command that creates topics and registers schemas before any role starts."""
    return (sys.executable, "-m", "infra.roles", "provision")


@dataclass(slots=True)
class Stack:
    """All processes of one data directory. ``run`` returns when a signal or ``stop`` has ended them."""

    settings: Settings
    roles: tuple[Role, ...]
    provision: tuple[str, ...] | None
    report: Report = lambda name, event, seconds: None
    executor: Callable[[int], Role] = executor_role
    processes: list[Process] = field(default_factory=list)
    is_ready: bool = False
    _begun_s: float = field(default_factory=time.time)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _pools: list[ExecutorPool] = field(default_factory=list)

    async def run(self) -> None:
        """Check, claim the data directory, start everything, wait for a signal, stop everything.

        Raises:
            StartError: when something outside keeps the stack from starting; nothing is left running.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        with claim(self.settings):
            await asyncio.to_thread(check_before_start, self.settings)
            forget_asked(self.settings)
            try:
                await self._until_stopped(self._start())
                await self._until_stopped(self._scale())
            finally:
                await self._shut_down()

    def stop(self) -> None:
        """Ask for a clean stop; asked twice, everything is killed at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _until_stopped(self, start: Coroutine[Any, Any, None]) -> None:
        starting = asyncio.create_task(start)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting

    async def _start(self) -> None:
        servers: list[ProcessSpec] = []
        if not self.settings.brokers:
            await asyncio.to_thread(format_storage, self.settings)
            servers.append(broker_process(self.settings))
        if not self.settings.redis_url:
            servers.append(redis_process(self.settings))
        await self._bring_up(servers)
        if self.provision is not None:
            await self._provision(self.provision)
        await self._bring_up([self._role_process(role) for role in self.roles])
        self.is_ready = True
        self._save()
        self.report("stack", "ready", time.time() - self._begun_s)

    async def _scale(self) -> None:
        """Start and end executors as they are wanted, until cancelled."""
        self._pools = [self._executor_pool(pool) for pool in pools(self.settings)]
        try:
            await asyncio.gather(*(pool.follow() for pool in self._pools))
        finally:
            for pool in self._pools:
                await pool.stop()

    def _executor_pool(self, pool: Pool) -> ExecutorPool:
        mine = {name: number for number, name in enumerate(pool.names(pool.at_start))}
        running = {mine[each.spec.name]: each for each in self.processes if each.spec.name in mine}
        begin = self._start_executor, self._forget, self._save
        return ExecutorPool(self.settings, pool, *begin, pool.at_start, running)

    def _start_executor(self, instance: int) -> Process:
        return self._supervise(self._role_process(self.executor(instance)))

    async def _forget(self, process: Process) -> None:
        await asyncio.shield(self._tasks[process.spec.name])
        self.processes.remove(process)
        del self._tasks[process.spec.name]
        self._save()

    async def _bring_up(self, specs: list[ProcessSpec]) -> None:
        started = [self._supervise(spec) for spec in specs]
        await asyncio.gather(*(self._wait_ready(process) for process in started))

    def _supervise(self, spec: ProcessSpec) -> Process:
        process = Process(spec, restart_frozen=self.settings.restart_frozen)
        process.on_change = lambda: self._changed(process)
        self.processes.append(process)
        self._tasks[spec.name] = asyncio.create_task(process.supervise(), name=spec.name)
        return process

    async def _wait_ready(self, process: Process) -> None:
        log = process.spec.log_path
        ready = asyncio.create_task(process.wait_ready())
        give_up = time.monotonic() + START_S
        while not ready.done():
            await asyncio.wait({ready}, timeout=0.05)
            if process.num_restarts >= MAX_EARLY_RESTARTS and not ready.done():
                raise StartError(f"{process.spec.name} does not start (exit status {process.last_exit}); read {log}.")
            if time.monotonic() > give_up and not ready.done():
                raise StartError(f"{process.spec.name} is not ready after {START_S:.0f} s; read {log}.")

    async def _provision(self, argv: tuple[str, ...]) -> None:
        spec = self._python_process("provision", argv, _never)
        step = Process(spec)
        self.report("provision", "starting", time.time() - self._begun_s)
        task = asyncio.create_task(step.run_once())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            step.ask_to_stop(signal.SIGKILL)
            await task
            raise
        if step.last_exit != 0:
            raise StartError(f"The topics and schemas cannot be provisioned; read {spec.log_path}.")
        self.report("provision", "done", time.time() - self._begun_s)

    def _role_process(self, role: Role) -> ProcessSpec:
        path = self.settings.run_dir / f"{role.name}.ready"
        spec = self._python_process(role.name, role.argv, ready_file(path))
        path.unlink(missing_ok=True)
        return spec

    def _python_process(self, name: str, argv: tuple[str, ...], ready: Ready) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=argv,
            env={**child_environment(self.settings, os.environ), "ISOS_PROCESS_NAME": name},
            log_path=self.settings.log_dir / f"{name}.log",
            ready=ready,
            stop_s=STOP_S,
        )

    async def _shut_down(self) -> None:
        servers = [process for process in self.processes if process.spec.name in ("broker", "redis")]
        ours = [process for process in self.processes if process not in servers]
        for group in (ours, servers):
            await self._end(group)
        self.is_ready = False
        self._save()
        self.report("stack", "stopped", time.time() - self._begun_s)

    async def _end(self, group: list[Process]) -> None:
        tasks = {self._tasks[process.spec.name] for process in group}
        if not tasks:
            return
        for process in group:
            process.ask_to_stop()
        patience_s = max(process.spec.stop_s for process in group)
        finished = asyncio.create_task(_wait_all(tasks))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({finished, hurry}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for process in group:
            if process.pid is not None:
                self.report(process.spec.name, "killed", time.time() - self._begun_s)
                process.ask_to_stop(signal.SIGKILL)
        await finished

    def _changed(self, process: Process) -> None:
        self._save()
        self.report(process.spec.name, str(process.phase), time.time() - self._begun_s)

    def _save(self) -> None:
        wanted = {each.pool.name: each.wanted for each in self._pools}
        write_state(self.settings, self._begun_s, self.is_ready, self.processes, wanted)


def run_stack(
    settings: Settings,
    roles: tuple[Role, ...] | None = None,
    provision: tuple[str, ...] | None = None,
    report: Report = lambda name, event, seconds: None,
) -> None:
    """Run the stack in this process until a signal ends it; without ``roles``, the program's own.

    Raises:
        StartError: when it cannot start.
    """
    if roles is None:
        roles, provision = default_roles(settings), default_provision()

    async def main() -> None:
        await Stack(settings, roles, provision, report).run()

    asyncio.run(main())


async def _wait_all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _never(pid: int) -> bool:
    del pid
    return False


def _main() -> int:
    def report(name: str, event: str, seconds: float) -> None:
        print(f"{seconds:7.2f} s  {name:<14} {event}", flush=True)

    try:
        run_stack(load_settings(), report=report)
    except StartError as error:
        print(error.sentence, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
