"""Which loads the scenarios of fixed rates put on."""

import pytest

from infra.bench import fixed
from tests.support.fake_bench import FakeBench


@pytest.mark.parametrize(
    ("scenario", "models", "rate", "seconds", "warmed"),
    [
        (fixed.smoke, 1, 2_000, 15, 0),
        (fixed.headline, 12, 1_850, 60, 0),
        (fixed.tenfold, 12, 18_500, 30, 1),
        (fixed.idle, 12, 20, 40, 1),
    ],
)
def test_one_phase_of_one_row_requests_behind_a_warm_up_where_none_would_do(scenario, models, rate, seconds, warmed):
    bench = FakeBench()
    assert scenario(bench) == {}
    *before, phase = [measured.phase for measured in bench.phases]
    assert [each.name for each in before] == ["warm-up"] * warmed
    assert (phase.rate, phase.seconds) == (rate, seconds)
    assert [load.model for load in phase.loads] == bench.served == [f"bench-{n:02d}" for n in range(models)]
    assert {load.row_bytes for load in phase.loads} == {1024}


def test_payload_goes_from_a_kib_to_blobs_at_a_bounded_rate_of_bytes():
    bench = FakeBench()
    sizes = fixed.payload(bench)["sizes"]
    phases = [measured.phase for measured in bench.phases]
    assert [phase.loads[0].row_bytes for phase in phases] == [1024 * factor for factor in (1, 4, 16, 64, 256, 2048)]
    assert all(phase.rate * phase.loads[0].row_bytes <= fixed.MAX_BYTES_S * 1.001 for phase in phases)
    assert list(sizes) == list(fixed.SIZES)


def test_images_are_bytes():
    bench = FakeBench()
    assert len(fixed.images(bench)["images"]) == 2
    assert {measured.phase.loads[0].datatype for measured in bench.phases} == {"UINT8"}
