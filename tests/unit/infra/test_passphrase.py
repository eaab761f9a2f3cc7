"""Passphrases: from a closed file or a terminal, twice for a new key, and a sentence where there is neither."""

from __future__ import annotations

import getpass
import io
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.passphrase import MAX_BYTES, new_passphrase, passphrase_of, unlock_by
from infra.review_keys import KeyFileError

KEY = Path("ann.pem")


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "secret"
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A terminal on which somebody types; what they were asked."""

    def types(*answers: str) -> list[str]:
        waiting, asked = list(answers), []

        def ask(prompt: str) -> str:
            asked.append(prompt)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if not waiting:
                raise EOFError
            return waiting.pop(0)

        monkeypatch.setattr(getpass, "getpass", ask)
        monkeypatch.setattr(Path, "open", lambda *_, **__: io.BytesIO())
        return asked

    return types


@pytest.mark.parametrize("content", [b"correct horse\n", b"correct horse", b"correct horse\r\nmore\n"])
def test_the_first_line_of_a_file(content: bytes, secret: Callable[[bytes], Path]) -> None:
    path = secret(content)
    assert passphrase_of(KEY, path) == unlock_by(str(path))(KEY) == new_passphrase(KEY, path) == b"correct horse"


def test_a_file_that_does_not_do(secret: Callable[[bytes], Path], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="first line of the passphrase file .* is empty") as refused:
        passphrase_of(KEY, secret(b"\nsecond"))
    assert refused.value.exit_code == 2
    path = secret(b"correct horse")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match=r"passphrase file .* is open to others; `chmod 600") as refused:
        passphrase_of(KEY, path)
    assert refused.value.exit_code == 4
    with pytest.raises(KeyFileError, match="There is no passphrase file") as refused:
        passphrase_of(KEY, tmp_path / "none")
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("content", [b"short\n", b"x" * (MAX_BYTES + 1)])
def test_a_new_passphrase_has_a_length(content: bytes, secret: Callable[[bytes], Path]) -> None:
    path = secret(content)
    with pytest.raises(KeyFileError, match=r"at least 8 characters .* no key was made") as refused:
        new_passphrase(KEY, path)
    assert refused.value.exit_code == 2


def test_it_is_asked_for_and_ctrl_c_ends_it(terminal: Callable[..., list[str]]) -> None:
    before = signal.getsignal(signal.SIGINT)
    asked = terminal("Zoë's secret")
    assert unlock_by("")(KEY) == "Zoë's secret".encode()
    assert asked == ["Passphrase of ann.pem: "]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_new_one_is_asked_for_twice(terminal: Callable[..., list[str]]) -> None:
    asked = terminal("correct horse", "correct horse")
    assert new_passphrase(KEY) == b"correct horse"
    assert asked == ["New passphrase of ann.pem: ", "The same again: "]
    terminal("correct horse", "correct hose")
    with pytest.raises(KeyFileError, match="The two passphrases differ; no key was made"):
        new_passphrase(KEY)


@pytest.mark.parametrize("answers", [(), ("",)])
def test_no_answer_is_a_sentence(answers: tuple[str, ...], terminal: Callable[..., list[str]]) -> None:
    terminal(*answers)
    with pytest.raises(KeyFileError, match="No passphrase was given"):
        passphrase_of(KEY)


def test_where_there_is_no_terminal_a_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(*_: Any, **__: Any) -> Any:
        raise OSError(6, "No such device or address")

    monkeypatch.setattr(Path, "open", no_terminal)
    with pytest.raises(KeyFileError, match="no terminal to ask on; --passphrase-file") as refused:
        passphrase_of(KEY)
    assert refused.value.exit_code == 4


def test_one_that_is_no_text_is_not_shown(terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def latin(_prompt: str) -> str:
        return b"caf\xe9".decode()

    terminal("x")
    monkeypatch.setattr(getpass, "getpass", latin)
    with pytest.raises(KeyFileError, match="not UTF-8") as raised:
        new_passphrase(KEY)
    assert "caf" not in str(raised.value)
    assert raised.value.__cause__ is None
