"""SVG is well formed, in its frame, and says what was given."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench.plot import HEIGHT, WIDTH, Axis, Line, bar_plot, line_plot

POINTS = st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(0, 1e7)), max_size=20)


@settings(deadline=None)
@given(POINTS, st.booleans())
def test_lines_stay_in_the_frame(points, log):
    svg = line_plot([Line("p50", points)], Axis("s"), Axis("ms", log=log))
    if any(y is not None and (y > 0 or not log) for _, y in points):
        circles = ElementTree.fromstring(svg).iter("circle")
        assert all(0 <= float(c.get("cx")) <= WIDTH and 0 <= float(c.get("cy")) <= HEIGHT for c in circles)
    else:
        assert svg == ""


def test_a_point_that_is_missing_breaks_the_line():
    svg = line_plot([Line("a & b", [(0, 1), (1, None), (2, 3), (3, 4)])], Axis("s"), Axis("ms", limit=100))
    path = re.search(r'<path d="([^"]*)"', svg).group(1)
    assert [word[0] for word in path.split() if word[0] in "ML"] == ["M", "M", "L"]
    assert "a &amp; b" in svg
    assert 'class="limit"' in svg


def test_bars_are_stacked_to_their_sum():
    svg = bar_plot({"one": {"edge": 10.0, "broker": 30.0}, "two": {"edge": 20.0}}, Axis("%"))
    rects = [rect for rect in ElementTree.fromstring(svg).iter("rect") if rect.find("title") is not None]
    heights = {rect.find("title").text: float(rect.get("height")) for rect in rects}
    assert heights["one, broker: 30"] == pytest.approx(3 * heights["one, edge: 10"], rel=0.02)
    assert heights["two, edge: 20"] == pytest.approx(2 * heights["one, edge: 10"], rel=0.02)


def test_nothing_to_draw():
    assert bar_plot({}, Axis("%")) == bar_plot({"one": {}}, Axis("%")) == ""
