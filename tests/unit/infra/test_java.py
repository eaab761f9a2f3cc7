"""Java and the jars, without starting a broker."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra import java


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "major"),
    [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_392"', 8), ('openjdk version "25" 2025', 25)],
)
def test_the_version_is_read_from_stderr(tmp_path: Path, text: str, major: int) -> None:
    assert java.java_version(str(script(tmp_path / "java", f"echo '{text}' >&2"))) == major


def test_what_is_no_java_has_no_version(tmp_path: Path) -> None:
    assert java.java_version(str(tmp_path / "absent")) is None
    assert java.java_version(str(script(tmp_path / "java", "echo hello >&2"))) is None


def test_an_old_java_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = script(tmp_path / "old" / "java", "echo 'version \"11.0.1\"' >&2")
    new = script(tmp_path / "home" / "bin" / "java", "echo 'version \"21.0.1\"' >&2")
    monkeypatch.setattr(java, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert java.find_java() is None
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.find_java() == str(new)


def test_jars_are_checked_against_the_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = tmp_path / "jars.sha256"
    sums.write_text(f"{hashlib.sha256(b'a').hexdigest()}  a.jar\n")
    monkeypatch.setattr(java, "SUMS", sums)
    jars = tmp_path / "jars"
    jars.mkdir()
    with pytest.raises(java.JarError, match=r"a\.jar"):
        java.check_jars(jars)
    (jars / "a.jar").write_bytes(b"a")
    java.check_jars(jars)
    assert not java.jars_are_current(jars)
    (jars / ".verified").write_text(java.file_digest(sums))
    assert java.jars_are_current(jars)
    (jars / "b.jar").write_bytes(b"b")
    with pytest.raises(java.JarError, match=r"b\.jar"):
        java.check_jars(jars)
    (jars / "b.jar").unlink()
    (jars / "a.jar").write_bytes(b"changed")
    with pytest.raises(java.JarError, match=r"a\.jar"):
        java.check_jars(jars)


def test_the_committed_sums_name_the_broker() -> None:
    names = [line.split()[1] for line in java.SUMS.read_text().splitlines()]
    assert len(names) == len(set(names)) > 40
    assert any(name.startswith("kafka_2.13-4.1.") for name in names)


def test_all_listeners_are_on_loopback_and_nothing_is_left_to_fill_in(tmp_path: Path) -> None:
    text = java.broker_properties(1234, 1235, tmp_path / "log")
    lines = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert lines["listeners"] == "CLIENT://127.0.0.1:1234,CONTROLLER://127.0.0.1:1235"
    assert lines["advertised.listeners"] == "CLIENT://127.0.0.1:1234"
    assert lines["log.dirs"] == str(tmp_path / "log")
    assert lines["auto.create.topics.enable"] == lines["unclean.leader.election.enable"] == "false"
    assert not any("{" in value for value in lines.values())


def test_the_archive_is_used_only_when_it_is_there(tmp_path: Path) -> None:
    assert java.archive_flags(tmp_path) == ()
    (tmp_path / "kafka.jsa").write_text("")
    assert java.archive_flags(tmp_path)[0] == f"-XX:SharedArchiveFile={tmp_path / 'kafka.jsa'}"
