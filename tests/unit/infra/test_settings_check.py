"""All that is wrong is said at once; what is odd is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings_check import check_settings

pytestmark = pytest.mark.usefixtures("clean")


def found(**flags: object) -> list[tuple[str, str]]:
    return [(each.level, each.setting) for each in check_settings(flags)]


def test_the_defaults_are_well() -> None:
    assert found() == []


def test_every_error_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_PARTITONS", "4")
    monkeypatch.setenv("ISOS_PORT_80_TCP", "x")
    assert found(edges=-1, device="tpu", nonsense=1) == [
        ("error", "ISOS_PARTITONS"),
        ("error", "edges"),
        ("error", "device"),
        ("error", "nonsense"),
        ("warning", "ISOS_PORT_80_TCP"),
    ]


def test_a_file_that_is_no_toml(clean: Path) -> None:
    (clean / "isos.toml").write_text("= 4\n")
    (only,) = check_settings({})
    assert only.sentence.startswith("A settings file is not valid TOML")


def test_a_folder_that_cannot_be_written_and_a_wrong_rules_file(clean: Path) -> None:
    (clean / "file").write_text("")
    assert found(data_dir=clean / "file") == [("error", "data_dir")]
    (clean / "rules.toml").write_text("[[rule]]\nid = 3\n")
    assert found(data_dir=clean) == [("error", "")]


def test_a_folder_that_is_not_there_is_not_made(clean: Path) -> None:
    assert found(data_dir=clean / "new" / "data") == []
    assert not (clean / "new").exists()


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ({"edges": 2}, "edges"),
        ({"partitions": 2, "validators": 3}, "validators"),
        ({"executors": 0}, "executors"),
        ({"executors": 3, "lanes": 2}, "lanes"),
        ({"tick_ms": 100, "default_timeout_ms": 200}, "tick_ms"),
        ({"fence": False}, "fence"),
        ({"tools_dir": "nowhere"}, "tools_dir"),
    ],
)
def test_what_is_odd_is_a_warning(flags: dict[str, object], setting: str) -> None:
    assert found(**flags) == [("warning", setting)]
