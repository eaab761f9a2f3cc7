"""The margin comes from the settings, and a collection that fails does not end the next one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from infra import blobs
from infra.blobs import blob_store, collect_regularly, margin_us
from infra.settings import load_settings
from streams.blobs.blob_collection import Collection, Horizon
from streams.blobs.blob_store import FOLDER, StoredBlob
from streams.connection import Connection, UnreachableError
from tests.support.fake_kafka import until


def test_store_and_margin(tmp_path: Path) -> None:
    settings = load_settings(
        data_dir=tmp_path, default_timeout_ms=1_000, max_timeout_ms=2_000, grace_ms=500, blob_keep_s=60
    )
    assert blob_store(settings).directory == tmp_path / FOLDER
    assert margin_us(settings) == 62_500_000


async def test_a_collection_that_cannot_be_done_is_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    async def collect(*_: Any, **__: Any) -> Collection:
        calls.append(1)
        if len(calls) == 1:
            raise UnreachableError("asking what is retained", "nobody listens")
        return Collection(Horizon(0), (StoredBlob("a" * 64, 7, 0),))

    caplog.set_level(logging.INFO, "infra.blobs")
    monkeypatch.setattr(blobs, "collect_blobs", collect)
    settings = load_settings(data_dir=tmp_path).model_copy(update={"blob_collect_s": 0})
    running = asyncio.ensure_future(collect_regularly(settings, Connection("127.0.0.1:1")))
    await until(lambda: len(calls) >= 3)
    running.cancel()
    await asyncio.wait({running})
    assert "no blobs were collected: asking what is retained failed: nobody listens" in caplog.text
    assert "1 blobs of 7 bytes and 0 leftovers were collected" in caplog.text
