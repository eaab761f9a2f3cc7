"""Raw stacks to a tree and to SVG."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench.flame import WIDTH, Node, flame_svg, hottest, read_stacks

RAW = [
    "main (a.py);work (b.py);<listcomp> (b.py) 3",
    "main (a.py);work (b.py) 1",
    "main (a.py);wait (c.py:7) 4",
    "",
    "x y",
]


def test_samples_add_up_from_below():
    root = read_stacks(RAW)
    main = root.children["main (a.py)"]
    assert (root.samples, main.samples, main.children["work (b.py)"].samples) == (8, 8, 4)
    assert main.children["work (b.py)"].children["<listcomp> (b.py)"].samples == 3


def test_the_hottest_are_those_that_ran_themselves():
    assert hottest(read_stacks(RAW), 2) == [("wait (c.py)", 0.5), ("<listcomp> (b.py)", 0.375)]
    assert hottest(Node("all"), 3) == []


def test_a_box_is_as_wide_as_its_share():
    boxes = list(ElementTree.fromstring(flame_svg(read_stacks(RAW))).iter("g"))
    widths = {box.find("title").text: float(box.find("rect").get("width")) for box in boxes}
    assert widths["all: 100.0 %"] == pytest.approx(WIDTH)
    assert widths["<listcomp> (b.py): 37.5 %"] == pytest.approx(WIDTH * 0.375, abs=0.1)


FRAMES = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5).map(";".join)


@settings(deadline=None)
@given(st.lists(st.tuples(FRAMES, st.integers(1, 9))))
def test_any_stacks_are_well_formed_svg_in_its_frame(stacks):
    svg = flame_svg(read_stacks(f"{stack} {count}" for stack, count in stacks))
    if svg:
        text = "".join(character for character in svg if character >= " " and character not in "\x7f\ufffe\uffff")
        for rect in ElementTree.fromstring(text).iter("rect"):
            assert float(rect.get("x")) + float(rect.get("width")) <= WIDTH + 0.2
