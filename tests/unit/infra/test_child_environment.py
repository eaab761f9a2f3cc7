"""What children get: the very same settings, and what must be set before an import."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.child_environment import as_environment, child_environment
from infra.settings import load_settings

pytestmark = pytest.mark.usefixtures("clean")


@given(st.integers(1, 256), st.booleans(), st.sampled_from(["auto", "cuda", "cpu"]), st.floats(0.1, 1e9))
def test_children_read_the_very_same_settings(partitions: int, fence: bool, device: str, rate: float) -> None:
    settings = load_settings(partitions=partitions, fence=fence, device=device, tenant_rate_per_s=rate)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in as_environment(settings).items():
            patch.setenv(name, value)
        assert load_settings() == settings


def test_children_get_what_must_be_set_before_an_import() -> None:
    env = child_environment(load_settings(), {"PATH": "/bin", "KEPT": "1"})
    assert env["ORT_DISABLE_TELEMETRY"] == "1"
    assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == "1"
    assert env["MALLOC_TRIM_THRESHOLD_"] == "1073741824"
    assert env["KEPT"] == "1"
    assert env["PATH"].endswith(":/bin")
