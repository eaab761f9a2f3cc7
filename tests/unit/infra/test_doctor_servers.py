"""What the doctor says when nothing runs, when an outside server is away, and of what servers report."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import doctor_servers as servers
from infra.settings import Settings, load_settings
from streams.topic_check import TopicCheck, TopicFault
from tests.support.broker import free_ports


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    broker, controller, redis, registry = free_ports(4)
    return load_settings(
        data_dir=tmp_path, brokers="", redis_url="", registry_url="", broker_port=broker, controller_port=controller,
        redis_port=redis, registry_port=registry,
    )  # fmt: skip


def test_nothing_running_is_said_and_is_no_failure(given: Settings) -> None:
    checks = [
        *servers.broker(given), *servers.topics(given), *servers.schemas(given), *servers.registry(given),
        *servers.redis_server(given), *servers.clock(given),
    ]  # fmt: skip
    assert {each.state for each in checks} == {"warn"}
    assert "`isos up`" in checks[0].remedy


def test_outside_servers_that_are_away_are_failures_without_their_passwords(given: Settings) -> None:
    (port,) = free_ports(1)
    away = given.model_copy(
        update={
            "brokers": f"127.0.0.1:{port}",
            "redis_url": f"redis://:hunter2@127.0.0.1:{port}/0",
            "registry_url": f"http://127.0.0.1:{port}",
        }
    )
    checks = [*servers.broker(away), *servers.redis_server(away), *servers.registry(away)]
    assert [each.state for each in checks] == ["fail"] * 3
    assert all("setting" in each.remedy for each in checks)
    assert "hunter2" not in str(checks)


def test_no_redis_server_to_start_is_a_failure(
    given: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = servers.redis_server(given.model_copy(update={"tools_dir": tmp_path}))
    assert found.state == "fail"
    assert "make setup" in found.remedy


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"redis_version": "7.4.1", "maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "ok"),
        ({"redis_version": "7.0.15", "maxmemory": 1 << 28, "maxmemory_policy": "volatile-ttl"}, "ok"),
        ({"redis_version": "7.0.15", "maxmemory": 1 << 28, "maxmemory_policy": "allkeys-lru"}, "warn"),
        ({"redis_version": "5.0.14"}, "fail"),
    ],
)
def test_redis_is_judged_by_its_own_figures(facts: dict[str, object], state: str) -> None:
    assert servers.judged_redis(facts, "redis://cache")[0].state == state


@pytest.mark.parametrize(("skew_ms", "state"), [(3, "ok"), (-900, "ok"), (2_000, "warn"), (-60_000, "fail")])
def test_clocks_that_go_apart(skew_ms: float, state: str) -> None:
    (found,) = servers.judged_clock(skew_ms)
    assert found.state == state
    assert ("NTP" in found.remedy) == (state != "ok")


ALIKE = dict.fromkeys(("inference.requests", "inference.admitted", "inference.executed", "inference.results"), 2)


def test_topics_that_differ_are_named_with_the_command_that_repairs() -> None:
    wrong = TopicFault("inference.dlq", "max.message.bytes", "1000", "12779520")
    (found,) = servers.judged_topics(TopicCheck((), (wrong,), ALIKE))
    assert found.state == "fail"
    assert found.sentence == "isos.inference.dlq.v1 has max.message.bytes = 1000, expected is 12779520."
    assert found.remedy == "`isos topics provision --repair`"


def test_partitions_that_differ_from_the_setting_or_from_each_other() -> None:
    fault = TopicFault("inference.requests", "partitions", "2", "4")
    (found,) = servers.judged_topics(TopicCheck((), (fault,), ALIKE))
    assert (found.name, found.state) == ("partitions", "fail")
    assert "partitions=2" in found.remedy
    (found,) = servers.judged_topics(TopicCheck((), (fault,), {**ALIKE, "inference.results": 4}))
    assert "inference.results 4" in found.sentence


def test_missing_topics_and_none_at_all() -> None:
    (found,) = servers.judged_topics(TopicCheck(("control.plans",), (), ALIKE))
    assert (found.state, found.remedy) == ("fail", "`isos topics provision`")
    assert servers.judged_topics(TopicCheck(("control.plans",), (), {}))[0].state == "warn"
    assert servers.judged_topics(TopicCheck((), (), ALIKE))[0].state == "ok"
