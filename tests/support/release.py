"""A copy of the program's source tree that a test turns into the next release, in place, and back.

The next release is made by rule, so that it keeps up with the records: the newest schema of every record gets a version
more, with one field more at its end that has a default, its dataclass the same field, and the codecs that are
written by hand what their authors would add. A rule that no longer finds its place fails.
"""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

from streams.codec import RECORDS, schema_versions, snake

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("agents", "executors", "infra", "schemas", "streams")
FIELD = "next_note"
_FIELD = {"name": FIELD, "type": "string", "default": "", "doc": "What the next release has to say; no unit."}

_FRAME_END = "    )  # fmt: skip\n    if cursor.at != len(value):"
_JOINED = '    return b"".join(parts)\n'
_EMPTY = 'write_string("")'
_HAND_WRITTEN = {
    "streams/frame_codec.py": (
        (_JOINED, f'    return b"".join((*parts, write_string(frame.{FIELD})))\n', 1),
        (_FRAME_END, f"        cursor.string(),\n{_FRAME_END}", 1),
    ),
    "streams/results.py": (('_END: Final = b""\n', '_END: Final = b"\\x00"\n', 1),),
    "streams/client/request_writer.py": ((_JOINED, f'    return b"".join((*parts, {_EMPTY}))\n', 2),),
}
"""By file: text, what takes its place, and how often it stands there."""


class SourceTree:
    """The copy in ``folder``; processes that start there run what stands in it at that moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for path in ROOT.glob("isos*"):
            if path.suffix == ".py":
                shutil.copy2(path, folder / path.name)
            elif path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))

    def upgrade(self) -> None:
        """Put the next release in the place of this one."""
        for record in RECORDS:
            version, text = max(schema_versions(record).items())
            schema = json.loads(text)
            schema["fields"].append(_FIELD)
            path = self.folder / "schemas" / f"{snake(record)}.v{version + 1}.avsc"
            path.write_text(json.dumps(schema, indent=2), encoding="utf-8")
        for path in sorted((self.folder / "schemas").glob("*.py")):
            _replace(path, _with_field(path.read_text(encoding="utf-8")))
        for name, changes in _HAND_WRITTEN.items():
            path = self.folder / name
            text = path.read_text(encoding="utf-8")
            for old, new, count in changes:
                assert text.count(old) == count, f"{name} holds {old!r} {text.count(old)} times"
                text = text.replace(old, new)
            _replace(path, text)

    def downgrade(self) -> None:
        """Put this release back."""
        for path in (self.folder / "schemas").glob("*.avsc"):
            if not (ROOT / "schemas" / path.name).exists():
                path.unlink()
        for name in [*_HAND_WRITTEN, *(f"schemas/{path.name}" for path in (ROOT / "schemas").glob("*.py"))]:
            _replace(self.folder / name, (ROOT / name).read_text(encoding="utf-8"))


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _with_field(text: str) -> str:
    """The module with the field added behind the last one of every record."""
    lines = text.splitlines(keepends=True)
    ends = [
        max(item.end_lineno or 0 for item in node.body if isinstance(item, ast.AnnAssign))
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name in RECORDS
    ]
    for end in sorted(ends, reverse=True):
        lines.insert(end, f'    {FIELD}: str = ""\n')
    return "".join(lines)
