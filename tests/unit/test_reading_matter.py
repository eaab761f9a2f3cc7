"""What README and AGENTS say of settings, commands, targets and files is so."""

from __future__ import annotations

import re
from pathlib import Path

from infra.cli import COMMANDS
from infra.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
README, AGENTS = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "AGENTS.md"))
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FOLDERS = ("schemas", "streams", "agents", "executors", "infra", "tests", "docs")
WORDS = {"empty": "", "true": "True", "false": "False", ".isos of the checkout": str(ROOT / ".isos")}


def documented_settings() -> dict[str, str]:
    """Default by name, from the README's table of settings, as Python writes it."""
    table = README.split("| setting | default | meaning |", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[2:]:
        names, default = (cell.strip() for cell in line.strip("|").split("|")[:2])
        text = default.replace("`", "").removesuffix(" each")
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), WORDS.get(text, text))
    return found


def test_the_readme_has_every_setting_with_its_default() -> None:
    defaults = {name: str(field.default) for name, field in Settings.model_fields.items()}
    assert documented_settings() == defaults


def test_the_readme_shows_every_command() -> None:
    assert [noun for noun in COMMANDS if not re.search(rf"\bisos {noun}\b", README)] == []


def test_every_target_that_is_named_can_be_made() -> None:
    named = set(re.findall(r"`make ([a-z-]+)|^    make ([a-z-]+)", README + AGENTS, re.MULTILINE))
    assert {first or second for first, second in named} - TARGETS == set()


def test_agents_md_is_short_and_names_files_that_exist() -> None:
    assert len(AGENTS.splitlines()) <= 120
    names = {name for name in re.findall(r"`([a-z_/]+\.(?:py|md|toml))`", AGENTS) if "<" not in name}
    known = [path.name for path in ROOT.glob("*.*")]
    known += [str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    assert [name for name in sorted(names) if not any(f"/{path}".endswith(f"/{name}") for path in known)] == []


def test_links_between_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "AGENTS.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == [], document.name
