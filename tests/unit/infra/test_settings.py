"""Settings: precedence, validation, the sentences about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import Settings, StartError, load_settings

pytestmark = pytest.mark.usefixtures("clean")


def test_each_source_wins_over_the_next(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().partitions == 1
    user = clean / "home" / ".config" / "isos" / "isos.toml"
    user.parent.mkdir(parents=True)
    user.write_text("partitions = 3\nlanes = 3\n")
    assert load_settings().partitions == 3
    (clean / "isos.toml").write_text("partitions = 4\n")
    assert (load_settings().partitions, load_settings().lanes) == (4, 3)
    monkeypatch.setenv("ISOS_PARTITIONS", "5")
    assert load_settings().partitions == 5
    assert load_settings(partitions=6).partitions == 6
    assert load_settings(partitions=None).partitions == 5


def test_there_is_a_lane_for_each_executor_unless_it_is_said_otherwise(clean: Path) -> None:
    assert load_settings().num_lanes == 2  # a fast one and a slow one
    assert load_settings(executors=0).num_lanes == 1
    assert load_settings(executors=3).num_lanes == 4
    assert load_settings(executors=3, lanes=2).num_lanes == 3
    assert load_settings(executors=3, slow_executors=0).num_lanes == 3
    assert load_settings(executors=3, max_slow_executors=2).num_lanes == 5
    assert load_settings(executors=1, max_executors=3).num_lanes == 4
    assert load_settings(executors=1, lanes=4, max_executors=3).num_lanes == 5
    assert load_settings(executors=0, max_executors=2).num_lanes == 3
    assert [load_settings(executors=2, max_executors=most).most_executors for most in (0, 2, 5)] == [2, 2, 5]


def test_an_invalid_value_is_one_sentence_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKER_PORT", "70000")
    with pytest.raises(StartError) as caught:
        load_settings()
    assert caught.value.exit_code == 2
    assert "broker_port (ISOS_BROKER_PORT)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"nonsense": 1},
        {"device": "tpu"},
        {"partitions": 0},
        {"default_timeout_ms": 200_000},
        {"redis_port": 19092},
        {"tenant_rate_per_s": 0},
        {"brokers": "localhost"},
        {"brokers": "a:9092,,b:9092"},
        {"redis_url": "127.0.0.1:6379"},
        {"registry_url": "redis://127.0.0.1"},
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(StartError) as caught:
        load_settings(**flags)
    assert caught.value.exit_code == 2


def test_a_broken_file_is_refused(clean: Path) -> None:
    (clean / "isos.toml").write_text("partitions = = 4\n")
    with pytest.raises(StartError, match="not valid TOML"):
        load_settings()


def test_addresses_are_the_given_ones_or_our_own() -> None:
    assert load_settings().bootstrap == "127.0.0.1:19092"
    assert load_settings().redis_address == "redis://127.0.0.1:16379/0"
    assert load_settings(brokers="k:1,l:2").bootstrap == "k:1,l:2"
    assert load_settings(registry_url="http://r:1").registry_address == "http://r:1"


def test_a_relative_data_directory_is_below_the_working_directory(clean: Path) -> None:
    assert load_settings().data_dir == clean / ".isos"


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "flags",
    [
        {"brokers": "a:9092, b.example-1.org:9093,[::1]:9092"},
        {"redis_url": "rediss://:secret@cache:6380/1"},
        {"registry_url": "https://schemas.example.org/base"},
    ],
)
def test_addresses_are_taken_as_they_are(flags: dict[str, str]) -> None:
    assert load_settings(**flags).model_dump(include=set(flags)) == flags


def test_an_unknown_setting_says_where_they_are_listed() -> None:
    with pytest.raises(StartError, match=r"nonsense \(ISOS_NONSENSE\): there is no such setting; README.md"):
        load_settings(nonsense=1)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ({"tick_ms": 500, "session_timeout_s": 1}, "tick_ms must be at most a third of session_timeout_s"),
        ({"brokers": "a:70000"}, "'a:70000' has no port between 1 and 65535"),
        ({"brokers": "a:0"}, "'a:0' has no port between 1 and 65535"),
        ({"redis_url": "redis://a:99999"}, "Port out of range 0-65535"),
        ({"redis_url": "redis://a:0"}, "has no port between 1 and 65535"),
        ({"max_timeout_ms": 3_600_001}, "less than or equal to 3600000"),
        ({"tenant_rate_per_s": float("inf")}, "finite number"),
        ({"tenant_rate_per_s": float("nan")}, "finite number"),
        ({"executors": 3, "max_executors": 2}, "max_executors is smaller than executors"),
        ({"slow_executors": 3, "max_slow_executors": 2}, "slow_executors is 1 to max_slow_executors"),
        ({"slow_executors": 0, "max_slow_executors": 2}, "slow_executors is 1 to max_slow_executors"),
        ({"executor": 2}, "there is no such setting; did you mean executors?"),
    ],
)
def test_a_refusal_says_why(flags: dict[str, object], part: str) -> None:
    with pytest.raises(StartError) as caught:
        load_settings(**flags)
    assert part in str(caught.value)


def test_a_password_in_a_wrong_address_is_not_repeated() -> None:
    with pytest.raises(StartError, match=r"http://:\*\*\*@cache") as caught:
        load_settings(redis_url="http://:hunter2@cache")
    assert "hunter2" not in str(caught.value)


def test_a_key_of_a_file_that_is_nearly_a_setting_names_it(clean: Path) -> None:
    (clean / "isos.toml").write_text("partition = 4\n")
    with pytest.raises(StartError, match=r"did you mean partitions\?"):
        load_settings()


def test_a_misspelled_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_PARTITONS", "4")
    with pytest.raises(StartError, match=r"ISOS_PARTITONS is no setting; did you mean ISOS_PARTITIONS\?") as caught:
        load_settings()
    assert caught.value.exit_code == 2


def test_a_foreign_variable_is_said_once_and_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOS_SERVICE_HOST_OF_THE_TEST", "10.0.0.1")
    load_settings()
    load_settings()
    assert capsys.readouterr().err.count("ISOS_SERVICE_HOST_OF_THE_TEST is no setting and is not read") == 1


def test_our_other_variables_are_none_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("ISOS_NO_INSTALL", "1")
    load_settings()
    assert capsys.readouterr().err == ""
