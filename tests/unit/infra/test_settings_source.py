"""Origins by precedence, names that are nearly settings, and passwords that are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings_source import Origin, did_you_mean, origins, shown, unknown_variables, without_password

NAMES = ("partitions", "data_dir", "redis_url", "lanes")


def test_the_first_source_that_says_something_is_the_origin(tmp_path: Path) -> None:
    project, user = tmp_path / "isos.toml", tmp_path / "user.toml"
    project.write_text("lanes = 2\n")
    user.write_text("lanes = 3\nredis_url = ''\n")
    found = origins(
        (*NAMES, "edges"), {"data_dir": "x", "lanes": None}, {"isos_partitions": "4"}, [project, user, tmp_path / "no"]
    )
    assert found == {
        "data_dir": Origin("flag", "--data-dir"),
        "partitions": Origin("environment", "isos_partitions"),
        "lanes": Origin("file", str(project)),
        "redis_url": Origin("file", str(user)),
        "edges": Origin("default"),
    }
    assert [str(each) for each in (found["data_dir"], found["edges"])] == ["flag --data-dir", "default"]


@pytest.mark.parametrize(
    ("name", "meant"), [("partition", "partitions"), ("PARTITONS", "partitions"), ("dataDir", "data_dir"), ("x", "")]
)
def test_what_is_meant(name: str, meant: str) -> None:
    assert did_you_mean(name, NAMES) == meant


def test_variables_that_are_none_of_ours() -> None:
    environment = {"ISOS_PARTITIONS": "1", "ISOS_LOG_LEVEL": "", "ISOS_LANE": "2", "ISOS_PORT_80_TCP": "", "HOME": "/"}
    assert unknown_variables(environment, NAMES) == {"ISOS_LANE": "lanes", "ISOS_PORT_80_TCP": ""}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://me:hunt@er2@cache/1", "redis://me:***@cache/1"),
        ("http://me@schemas", "http://me@schemas"),
        ("redis://cache:6379", "redis://cache:6379"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("", ""),
    ],
)
def test_passwords_in_addresses_are_masked(text: str, seen: str) -> None:
    assert without_password(text) == shown("redis_url", text) == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("https://chat.example/hooks/abc?token=d", "https://chat.example/***"),
        ("http://me:hunter2@127.0.0.1:8080", "http://127.0.0.1:8080/***"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("", ""),
    ],
)
def test_of_a_webhook_only_the_host_is_shown(text: str, seen: str) -> None:
    assert shown("alert_webhook_url", text) == seen


@pytest.mark.parametrize("name", ["kafka_password", "client_secret", "auth_token", "signing_key"])
def test_secrets_are_masked_by_their_name(name: str) -> None:
    assert (shown(name, "hunter2"), shown(name, "")) == ("***", "")
    assert shown("keys_per_s", 3) == 3
