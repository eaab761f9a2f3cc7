"""CPU time divided by requests and frames."""

from infra.bench.cost import cost_rows, markdown
from infra.bench.processes import Sample

BEFORE = Sample(0.0, {"edge-0": 1.0, "broker": 2.0, "gone": 1.0}, {}, {"edge-0": 0.5, "broker": 1.0})
AFTER = Sample(10.0, {"edge-0": 2.0, "broker": 6.0, "new": 1.0}, {}, {"edge-0": 0.8, "broker": 2.0})


def test_the_costliest_first_and_a_sum():
    rows = cost_rows(BEFORE, AFTER, requests=10_000, frames=1_000)
    assert [row["process"] for row in rows] == ["broker", "edge-0", "all"]
    assert rows[1] == {
        "process": "edge-0", "cpu_percent": 10.0, "us_per_request": 100.0, "user_us": 70.0, "system_us": 30.0,
        "ms_per_frame": 1.0,
    }  # fmt: skip
    assert (rows[2]["us_per_request"], rows[2]["cpu_percent"]) == (500.0, 50.0)


def test_without_frames_there_is_no_cost_of_one():
    assert cost_rows(BEFORE, AFTER, 10, 0)[0]["ms_per_frame"] is None


def test_as_markdown():
    text = markdown([{"process": "edge-0", "us_per_request": 1.5}, {"process": "all", "us_per_request": None}])
    assert text == "| process | us per request |\n|---|---:|\n| edge-0 | 1.5 |\n| all | - |\n"
    assert markdown([]).count("\n") == 2
