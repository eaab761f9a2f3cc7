"""Where redis-server is looked for and how it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.redis_server import find_redis, redis_process
from infra.settings import StartError, load_settings


@pytest.fixture
def no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return tmp_path


def test_the_unpacked_copy_is_used_with_its_libraries(no_path: Path) -> None:
    folder = no_path / "redis" / "usr" / "bin"
    folder.mkdir(parents=True)
    (folder / "redis-check-rdb").touch()
    (no_path / "redis" / "usr" / "lib" / "x86_64-linux-gnu").mkdir(parents=True)
    server, variables = find_redis(no_path)
    assert server == str(folder / "redis-server")
    assert variables == {"LD_LIBRARY_PATH": str(no_path / "redis" / "usr" / "lib" / "x86_64-linux-gnu")}


def test_none_at_all_is_one_sentence(no_path: Path) -> None:
    with pytest.raises(StartError, match="ISOS_REDIS_URL") as caught:
        find_redis(no_path)
    assert caught.value.exit_code == 6


def test_a_full_one_forgets_what_would_expire_first(tmp_path: Path) -> None:
    argv = redis_process(load_settings(data_dir=tmp_path)).argv
    pairs = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert (pairs["--maxmemory"], pairs["--maxmemory-policy"]) == ("256mb", "volatile-ttl")


def test_it_listens_on_loopback_only_and_keeps_nothing(tmp_path: Path) -> None:
    argv = redis_process(load_settings(data_dir=tmp_path, redis_port=12345)).argv
    pairs = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert (pairs["--bind"], pairs["--port"], pairs["--save"], pairs["--appendonly"]) == (
        "127.0.0.1",
        "12345",
        "",
        "no",
    )


def test_a_long_folder_goes_without_a_unix_socket(tmp_path: Path) -> None:
    assert "--unixsocket" not in redis_process(load_settings(data_dir=tmp_path / ("x" * 100))).argv
