"""The key of checks: one for all processes of a stack, and another one than what it is made of."""

from __future__ import annotations

from pathlib import Path

from infra.cache import cache_secret
from infra.check_key import check_key
from infra.settings import Settings


def test_processes_of_a_stack_have_one_key(tmp_path: Path) -> None:
    given = Settings.model_validate({"data_dir": tmp_path / "one"})
    assert check_key(given) == check_key(given)
    assert len(check_key(given)) == 32
    assert check_key(given) != check_key(Settings.model_validate({"data_dir": tmp_path / "other"}))
    assert check_key(given) not in cache_secret(given)


def test_where_no_secret_can_be_kept_nobody_knows_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file in the folder's place")
    given = Settings.model_validate({"data_dir": tmp_path})
    assert check_key(given) != check_key(given)
