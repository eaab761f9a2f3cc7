"""A step of set-up fails with one sentence; steps run side by side."""

from __future__ import annotations

import pytest

from infra import setup_step


def test_a_failing_command_is_one_sentence() -> None:
    with pytest.raises(setup_step.SetupError, match=r"^It broke \(exit status 3"):
        setup_step.run(["/bin/sh", "-c", "exit 3"], "it broke")
    with pytest.raises(setup_step.SetupError, match="^It broke: "):
        setup_step.run(["/nonexistent"], "it broke")


def test_jobs_run_together_and_the_first_failure_is_told() -> None:
    done: list[int] = []

    def fail() -> None:
        raise setup_step.SetupError("no")

    with pytest.raises(setup_step.SetupError, match="no"):
        setup_step.together([fail, lambda: done.append(1)])
    assert done == [1]


def test_each_line_is_written_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    setup_step.say("a line")
    assert capsys.readouterr().err == "set-up: a line\n"
