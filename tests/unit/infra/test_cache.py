"""The cache's secret: made once, shared by all, never guessed from outside."""

from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.cache import cache_secret, open_cache
from infra.settings import Settings, StartError


def settings(data_dir: Path, **flags: object) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, **flags})


def test_the_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    given = settings(tmp_path / "data")
    first = cache_secret(given)
    path = tmp_path / "data" / "keys" / "cache.key"
    assert len(first) == 64
    assert cache_secret(given) == first == path.read_bytes().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert cache_secret(settings(tmp_path / "other")) != first


def test_processes_that_start_together_have_one_secret(tmp_path: Path) -> None:
    given = settings(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: cache_secret(given), range(8)))) == 1


def test_a_secret_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    given = settings(tmp_path / "data", cache_key_file=str(path))
    with pytest.raises(StartError, match=r"cannot be read: No such file or directory \(setting cache_key_file\)"):
        cache_secret(given)
    path.write_text("short\n")
    with pytest.raises(StartError, match="fewer than 16 bytes"):
        cache_secret(given)
    path.write_text("long enough for a secret\n")
    assert cache_secret(given) == b"long enough for a secret"


def test_where_no_secret_can_be_kept_nothing_is_shared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "keys").write_text("a file in the folder's place")
    with caplog.at_level(logging.WARNING):
        first, second = cache_secret(settings(tmp_path)), cache_secret(settings(tmp_path))
    assert first != second
    assert "nothing is cached" in caplog.text
    assert first.hex() not in caplog.text


async def test_opening_asks_nobody(tmp_path: Path) -> None:
    given = settings(tmp_path, redis_url="redis://127.0.0.1:1/0", cache_bytes=1 << 20)
    async with open_cache(given, local_bytes=5) as store:
        assert store.is_away is False
