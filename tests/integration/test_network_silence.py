"""Nothing leaves the machine: neither our program nor, with its switch thrown, a library's telemetry.

In a network namespace with loopback only, each attempt to reach another address counts in ``OutNoRoutes``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from infra.child_environment import as_environment
from tests.support.netns import NamespaceError, Observed, observe
from tests.support.stack import stack_settings

SWITCH = "ORT_DISABLE_TELEMETRY"
# The library says nothing where it takes the machine for a build server (names found in its binary, and tried): with
# one of these set, neither run here would show anything.
BUILD_SERVERS = (
    "CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID",
    "BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER",
)  # fmt: skip
IMPORT_AND_WAIT = "import executors.runtime, threading; threading.Event().wait()"


def environment(**variables: str) -> dict[str, str]:
    """Give the environment of a person's machine, without the switch that the tests' own configuration has thrown."""
    silent = (SWITCH, *BUILD_SERVERS)
    return {**{name: text for name, text in os.environ.items() if name not in silent}, **variables}


def seen(argv: list[str], folder: Path, env: dict[str, str], limit_s: float, *, until_moved: bool) -> Observed:
    try:
        return observe([sys.executable, *argv], folder, env, limit_s, until_moved=until_moved)
    except NamespaceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Give what is seen of a process that only imports the runtime, with telemetry left on."""
    folder = tmp_path_factory.mktemp("telemetry")
    return seen(["-c", IMPORT_AND_WAIT], folder, environment(**{SWITCH: "0"}), 60, until_moved=True)


def test_telemetry_that_is_left_on_is_seen(telemetry: Observed) -> None:
    assert telemetry.status is None, telemetry.output
    assert telemetry.before == 0
    assert telemetry.after > 0


@pytest.mark.timeout(240)
def test_the_demonstration_reaches_for_no_address_outside(tmp_path: Path, telemetry: Observed) -> None:
    age_s = max(30.0, 2 * telemetry.seconds)  # long enough for telemetry to have been seen
    env = environment(**as_environment(stack_settings(tmp_path)))
    demo = seen(["-m", "tests.support.quiet_demo", str(age_s)], tmp_path, env, 220, until_moved=False)
    assert demo.status == 0, demo.output
    assert (tmp_path / "results" / "demo.json").exists()
    assert (demo.before, demo.after) == (0, 0), demo.output
