"""A detached start that fails says what the supervisor said, and leaves no supervisor."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from infra.commands.up import up_detached
from infra.settings import StartError, load_settings
from infra.stack_state import is_running
from tests.support.stack import own_ports


def test_the_supervisors_sentence_and_code_are_passed_on(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = load_settings(data_dir=tmp_path, **{**own_ports(), "redis_port": taken.getsockname()[1]})
        with pytest.raises(StartError, match="redis_port") as caught:
            up_detached(settings)
    assert caught.value.exit_code == 6
    assert not is_running(settings)


def test_an_unwritable_folder_is_one_sentence() -> None:
    with pytest.raises(StartError, match="cannot be written"):
        up_detached(load_settings(data_dir="/proc/nowhere"))
