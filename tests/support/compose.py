"""Run the services of ours that compose.yaml describes as processes of this machine, without a container engine.

Command, environment, order, health check, restart policy and time to stop are those of the file. ``Ground`` is the only
place where something is changed: the folders and addresses that exist only inside containers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.process import die_with_parent, signal_group
from tests.support.containerfile import Stage, relocate
from tests.support.stack import wait_until

Service = Mapping[str, Any]
_RESTART_S = 0.1
_MAX_RESTARTS = 3
_PATIENCE = 3  # times the file's time for a start: the machine of a test is a busy one
_SERVED_ELSEWHERE = ("broker", "redis")


def read_compose(path: Path) -> dict[str, Any]:
    """Parse the file; merge keys are resolved."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def seconds(text: str) -> float:
    """Read a duration such as ``12s``."""
    match = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert match, text
    return int(match.group(1)) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match.group(2)]


def mem_limit_bytes(service: Service) -> int:
    """Read a service's memory limit, such as ``512m``."""
    text: str = service["mem_limit"]
    return int(text[:-1]) << {"m": 20, "g": 30}[text[-1]]


def broker_properties(service: Service, addresses: Mapping[str, str]) -> str:
    """Give server.properties as the broker's image makes it of ``KAFKA_`` variables; ``addresses`` are replaced."""
    environment: dict[str, str] = service["environment"]
    lines = [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={relocate(value, addresses)}"
        for name, value in environment.items()
        if name != "KAFKA_HEAP_OPTS"
    ]
    return "\n".join(lines) + "\n"


def mounts(service: Service) -> dict[str, str]:
    """Volume by the container path at which a service has it."""
    return {path: name for name, _, path in (each.partition(":") for each in service.get("volumes", ()))}


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the containers' folders and addresses are on this machine.

    ``image`` holds what the image has below ``/opt/isos``, ``volumes`` one folder per volume; each service has a folder
    of its own below ``services`` for its tmpfs. ``addresses`` maps host:port of the containers' network.
    """

    image: Path
    volumes: Path
    services: Path
    addresses: Mapping[str, str]

    def moved(self, name: str, service: Service) -> dict[str, Path | str]:
        """What is replaced in the command and environment of a service."""
        own = self.services / name
        volumes = {path: self.volumes / volume for path, volume in mounts(service).items()}
        tmpfs = {path: own / path[1:] for path in (each.partition(":")[0] for each in service.get("tmpfs", ()))}
        return {"/opt/isos": self.image, **tmpfs, **volumes, **self.addresses}

    def prepare(self, name: str, service: Service) -> None:
        """Make the folders of a service: its tmpfs, and its volumes, filled from the image when they are new."""
        moved = self.moved(name, service)
        for path in (each.partition(":")[0] for each in service.get("tmpfs", ())):
            Path(moved[path]).mkdir(parents=True, exist_ok=True)
        for path, volume in mounts(service).items():
            at = self.volumes / volume
            original = Path(relocate(path, {"/opt/isos": self.image}))
            if not at.exists():
                shutil.copytree(original, at) if original.is_dir() else at.mkdir(parents=True)
            inside = Path(relocate(path, {key: value for key, value in moved.items() if key not in mounts(service)}))
            if inside != original and not inside.exists():
                inside.symlink_to(at)


@dataclass(slots=True)
class Container:
    """One service as a process: ``run`` in a thread of its own keeps it up by its restart policy."""

    name: str
    service: Service
    ground: Ground
    image: Stage
    log_path: Path
    pid: int | None = None
    exits: list[int] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The image's variables and the service's, and nothing of this process's own."""
        both = {**self.image.env, **self.service.get("environment", {})}
        moved = self.ground.moved(self.name, self.service)
        return {name: relocate(value, moved) for name, value in both.items()}

    @property
    def folder(self) -> Path:
        """The image's working directory."""
        return Path(relocate(self.image.last("WORKDIR").argument, self.ground.moved(self.name, self.service)))

    @property
    def is_started(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    def argv(self, command: list[str]) -> list[str]:
        """A command as the container would find it."""
        moved = self.ground.moved(self.name, self.service)
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program, command
        return [program, *(relocate(word, moved) for word in command[1:])]

    def start(self) -> None:
        """Start the service."""
        self.ground.prepare(self.name, self.service)
        self._thread = threading.Thread(target=self._keep, name=self.name)
        self._thread.start()

    def _keep(self) -> None:
        argv = self.argv([*self.service["entrypoint"], *self.service["command"]])
        while not self.stopping.is_set():
            with self.log_path.open("ab") as log:
                # The thread lives as long as its child, so that the child ends with this process, whatever happens.
                child = subprocess.Popen(
                    argv, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    process_group=0, preexec_fn=die_with_parent(os.getpid()),
                )  # fmt: skip
            self.pid = child.pid
            status = child.wait()
            self.pid = None
            self.exits.append(status)
            if self.service["restart"] == "no" or status == 0:
                return
            self.stopping.wait(_RESTART_S)

    def run(self, *arguments: str, files: Path | None = None) -> subprocess.CompletedProcess[str]:
        """``docker compose run``: the entry point with other arguments, in the folder ``files`` if given."""
        self.ground.prepare(self.name, self.service)
        return subprocess.run(
            self.argv([*self.service["entrypoint"], *arguments]), env=self.environment, cwd=files or self.folder,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def check(self) -> str | None:
        """Run the health check once: None when it succeeds, else what it said."""
        form, *command = self.service["healthcheck"]["test"]
        assert form == "CMD"
        done = subprocess.run(
            self.argv(command), env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        return None if done.returncode == 0 else f"{done.stdout}{done.stderr}".strip()

    def wait_healthy(self) -> None:
        """Check at the file's interval for the start until it succeeds."""
        check = self.service["healthcheck"]
        give_up = time.monotonic() + _PATIENCE * seconds(check["start_period"])
        num_before = len(self.exits)
        while (said := self.check()) is not None:
            hopeless = len(self.exits) >= num_before + _MAX_RESTARTS or time.monotonic() > give_up
            assert not hopeless, f"{self.name}: {said}\n{self.tail()}"
            self.stopping.wait(seconds(check["start_interval"]))

    def wait_completed(self) -> None:
        """Wait for the end of a service that does one thing."""
        wait_until(lambda: self.exits, 120, f"the end of {self.name}")
        assert self.exits == [0], self.tail()

    def wait_pid(self) -> int:
        """Id of its process, once there is one."""
        return int(wait_until(lambda: self.pid, 30, f"a process of {self.name}"))

    def kill(self) -> None:
        """Kill -9."""
        os.kill(self.wait_pid(), signal.SIGKILL)

    def stop(self) -> float:
        """SIGTERM, and SIGKILL when the time to stop is over; the seconds it took."""
        begun = time.monotonic()
        self.stopping.set()
        if self._thread is None:
            return 0.0
        if self.pid is not None:
            signal_group(self.pid, signal.SIGTERM)
        self._thread.join(seconds(self.service["stop_grace_period"]))
        if self._thread.is_alive() and self.pid is not None:
            signal_group(self.pid, signal.SIGKILL)
            self._thread.join()
        return time.monotonic() - begun

    def tail(self) -> str:
        """The end of its log."""
        return self.log_path.read_text(errors="replace")[-3000:] if self.log_path.exists() else ""


class Composition:
    """All services of a compose file but broker and Redis, which the test supplies."""

    def __init__(self, document: Mapping[str, Any], ground: Ground, image: Stage, logs: Path) -> None:
        services: dict[str, Service] = document["services"]
        logs.mkdir(parents=True)
        self.containers = {
            name: Container(name, service, ground, image, logs / f"{name}.log")
            for name, service in services.items()
            if name not in _SERVED_ELSEWHERE
        }

    @property
    def served(self) -> list[Container]:
        """Those that start with ``up`` and stay."""
        return [each for each in self.containers.values() if each.service.get("restart", "no") != "no"]

    def up(self) -> None:
        """Start every service outside profiles, each as soon as what it depends on is as far as it asks for."""
        for each in self.containers.values():
            if "profiles" not in each.service:
                self._start(each)

    def _start(self, container: Container) -> None:
        if container.is_started:
            return
        for name, need in container.service.get("depends_on", {}).items():
            if name in _SERVED_ELSEWHERE:
                continue
            self._start(self.containers[name])
            if need["condition"] == "service_completed_successfully":
                self.containers[name].wait_completed()
            else:
                assert need["condition"] == "service_healthy", need
                self.containers[name].wait_healthy()
        container.start()

    def down(self) -> dict[str, float]:
        """Stop in the reverse order; seconds that each took."""
        return {each.name: each.stop() for each in reversed(self.containers.values())}
