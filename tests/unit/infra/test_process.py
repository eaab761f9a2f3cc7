"""One supervised child: readiness, restart, stop, and death with its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.process import FIRST_DELAY_S, LIVED_S, Phase, Process, ProcessSpec, is_alive, process_state, ready_file


async def always(pid: int) -> bool:
    return pid > 0


async def never(pid: int) -> bool:
    return pid < 0


def spec(tmp_path: Path, *argv: str) -> ProcessSpec:
    return ProcessSpec("child", argv, dict(os.environ), tmp_path / "logs" / "child.log", always)


async def until(condition: object, timeout_s: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_child_becomes_ready_and_stops(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, "/bin/sleep", "600"))
    phases: list[Phase] = []
    process.on_change = lambda: phases.append(process.phase)
    task = asyncio.create_task(process.supervise())
    await asyncio.wait_for(process.wait_ready(), 5)
    pid = process.pid
    assert pid is not None
    assert os.getpgid(pid) == pid
    process.ask_to_stop()
    await asyncio.wait_for(task, 5)
    assert phases == [Phase.STARTING, Phase.READY, Phase.STOPPED]
    assert process.last_exit == -signal.SIGTERM
    assert not is_alive(pid)


async def test_a_failing_child_is_restarted_with_growing_delays(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, "/bin/false"))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    process.on_change = lambda: times.append(loop.time()) if process.phase is Phase.STARTING else None
    task = asyncio.create_task(process.supervise())
    await until(lambda: len(times) == 3)
    process.ask_to_stop()
    await asyncio.wait_for(task, 5)
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.2 <= first < 0.5
    assert 0.4 <= second < 1.0


async def test_a_child_that_was_asked_to_end_has_a_successor_at_once(tmp_path: Path) -> None:
    program = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
    process = Process(spec(tmp_path, sys.executable, "-c", program))
    loop = asyncio.get_running_loop()
    ended, began = [], []

    def note() -> None:
        if process.phase is Phase.BACKING_OFF:
            ended.append(loop.time())
        if process.phase is Phase.STARTING:
            began.append(loop.time())

    process.on_change = note
    task = asyncio.create_task(process.supervise())
    for number in range(3):
        await until(lambda wanted=number + 1: len(began) == wanted)
        await asyncio.sleep(LIVED_S)  # the age from which an end counts as asked for
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGTERM)
    await until(lambda: len(began) == 4)
    process.ask_to_stop()
    await asyncio.wait_for(task, 5)
    assert max(after - before for before, after in zip(ended, began[1:], strict=False)) < FIRST_DELAY_S
    assert process.num_restarts == 3


async def test_a_program_that_is_not_there_stands_in_the_log(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, "/nonexistent/program"))
    await process.run_once()
    assert process.last_exit == 127
    assert "/nonexistent/program" in (tmp_path / "logs" / "child.log").read_text()


async def test_a_stopped_child_can_be_ended(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, "/bin/sleep", "600"))
    task = asyncio.create_task(process.supervise())
    await asyncio.wait_for(process.wait_ready(), 5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    await until(lambda: process_state(process.pid or 0) == "T")
    process.ask_to_stop()
    await asyncio.wait_for(task, 5)


async def test_what_a_child_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, "/bin/sh", "-c", "sleep 600 & echo $!"))
    await process.run_once()
    left = int((tmp_path / "logs" / "child.log").read_text())
    await until(lambda: not is_alive(left))


def test_a_child_dies_with_its_supervisor_even_by_kill_9(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from infra.process import Process, ProcessSpec\n"
        "async def ready(pid): print(pid, flush=True); return True\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "asyncio.run(Process(ProcessSpec('c', ('/bin/sleep', '600'), dict(os.environ), log, ready)).supervise())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert is_alive(child)
        supervisor.kill()
    asyncio.run(until(lambda: not is_alive(child)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
async def test_a_readiness_file_of_somebody_else_does_not_count(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.ready"
    assert not await ready_file(path)(7)
    path.write_text(text)
    assert not await ready_file(path)(7)
    path.write_text(json.dumps({"pid": 7}))
    assert await ready_file(path)(7)
