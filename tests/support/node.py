"""Node.js and the packages of ``tests/foreign/node``, for the consumer that is written in another language.

``python -m tests.support.node`` prepares both: it installs Node.js and npm with the system's package tool when they are
missing, and the locked packages into ``.isos/node``. Only tests need them; nothing of the program does.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from infra.bootstrap import TOOLS, install_system
from infra.setup_step import SetupError, run

SOURCE = Path(__file__).parents[1] / "foreign" / "node"
FOLDER = TOOLS / "node"
FILES = ("package.json", "package-lock.json", "read_results.mjs")
MIN_NODE = 18


def node_version() -> int:
    """Major version of the Node.js on PATH; 0 when there is none."""
    if shutil.which("node") is None:
        return 0
    printed = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major = printed.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def prepare() -> Path:
    """Folder that holds the reader with its packages. Raises SetupError with one sentence."""
    if node_version() < MIN_NODE or shutil.which("npm") is None:
        install_system(["nodejs", "npm"])
    if node_version() < MIN_NODE:
        raise SetupError(f"The tests need Node.js {MIN_NODE} or newer with npm; install it and try again.")
    stamp = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()
    if (FOLDER / "stamp").exists() and (FOLDER / "stamp").read_text() == stamp:
        return FOLDER
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for name in FILES:
        shutil.copy(SOURCE / name, FOLDER / name)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--silent"]
    run(command, "the Node.js packages cannot be installed", cwd=FOLDER)
    (FOLDER / "stamp").write_text(stamp)
    return FOLDER


if __name__ == "__main__":
    try:
        prepare()
    except SetupError as error:
        sys.exit(f"{error}")
