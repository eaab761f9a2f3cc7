"""The folders of the tests mirror the program's: each module has its test file, and each test file its module."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("schemas", "streams", "agents", "executors", "infra")
UNIT = ROOT / "tests" / "unit"


def modules() -> set[Path]:
    files = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    return {path for path in files if not path.name.startswith("__")}


def mirror(module: Path) -> Path:
    return UNIT / module.parent / f"test_{module.name}"


def test_every_module_has_a_unit_test() -> None:
    assert sorted(str(module) for module in modules() if not mirror(module).exists()) == []


def test_every_unit_test_below_a_package_has_its_module() -> None:
    expected = {mirror(module) for module in modules()}
    found = {path for package in PACKAGES for path in (UNIT / package).rglob("test_*.py")}
    assert sorted(str(path.relative_to(ROOT)) for path in found - expected) == []


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


def test_the_packages_init_files_are_empty() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert [str(path) for path in files if path.read_text().strip()] == []
