"""``isos blobs`` on a folder; the collection against a broker is in tests/integration/test_blobs.py."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.commands.blobs import app
from streams.blobs.blob_store import LocalBlobStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBlobStore:
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    return LocalBlobStore.below(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def document(*arguments: str) -> Any:
    done = run(*arguments, "--output", "json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_an_empty_store(store: LocalBlobStore) -> None:
    assert document("list") == {"num_blobs": 0, "size_bytes": 0, "blobs": []}


def test_list_and_show(store: LocalBlobStore) -> None:
    refs = [asyncio.run(store.put(data)) for data in (b"one", b"three")]
    listed = document("list")
    assert (listed["num_blobs"], listed["size_bytes"]) == (2, 8)
    assert {row["digest"]: row["size_bytes"] for row in listed["blobs"]} == {ref.digest: ref.size_bytes for ref in refs}
    shown = document("show", refs[1].digest[:12].upper())
    assert (shown["digest"], shown["size_bytes"], shown["sound"]) == (refs[1].digest, 5, True)
    assert Path(shown["path"]).read_bytes() == b"three"
    short = run("list", "--limit", "1")
    assert "1 of 2 blobs" in short.stderr


def test_a_changed_blob_is_said_with_exit_7(store: LocalBlobStore) -> None:
    ref = asyncio.run(store.put(b"one"))
    store.path(ref.digest).write_bytes(b"two")
    done = run("show", ref.digest, "--output", "json")
    assert done.exit_code == 7
    assert json.loads(done.stdout)["sound"] is False
    assert "holds other bytes" in done.stderr
    assert "blob_corrupt" in done.stderr


@pytest.mark.parametrize(("digest", "status"), [("0" * 64, 3), ("feed", 3), ("zzzz", 3), ("abc", 2)])
def test_what_is_not_there(store: LocalBlobStore, digest: str, status: int) -> None:
    done = run("show", digest)
    assert done.exit_code == status
    assert "isos blobs list" in done.stderr or "at least 4" in done.stderr


def test_an_ambiguous_prefix_is_a_usage_error(store: LocalBlobStore) -> None:
    for last in "01":
        path = store.path("ab" * 31 + f"a{last}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert run("show", "abab").exit_code == 2


def test_without_a_broker_nothing_is_collected(store: LocalBlobStore) -> None:
    asyncio.run(store.put(b"one"))
    done = run("collect")
    assert done.exit_code == 6
    assert "does not answer" in done.stderr
    assert document("list")["num_blobs"] == 1
