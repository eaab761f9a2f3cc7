"""Flame graphs as SVG text from py-spy's raw format (``frame;frame;frame count`` lines). Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Final

WIDTH: Final = 1200.0
ROW: Final = 17
MIN_PX: Final = 0.6
MAX_DEPTH: Final = 70
CHARACTER_PX: Final = 6.2
_LINE: Final = re.compile(r":\d+\)$")


@dataclass(slots=True)
class Node:
    """A frame in its place: samples that were in it or below, and what it called."""

    name: str
    samples: int = 0
    children: dict[str, Node] = field(default_factory=dict)


def read_stacks(lines: Iterable[str]) -> Node:
    """Fold raw lines into a tree; lines that are none are passed over."""
    root = Node("all")
    for line in lines:
        stack, _, number = line.rstrip("\n").rpartition(" ")
        if not stack or not number.isdigit():
            continue
        count, node = int(number), root
        root.samples += count
        for name in stack.split(";")[:MAX_DEPTH]:
            node = node.children.setdefault(name, Node(name))
            node.samples += count
    return root


def hottest(root: Node, count: int) -> list[tuple[str, float]]:
    """Functions by the share of samples in which they ran themselves, not what they called; the largest first."""
    own: dict[str, int] = {}
    todo = list(root.children.values())
    while todo:
        node = todo.pop()
        todo += node.children.values()
        name = _LINE.sub(")", node.name)
        own[name] = own.get(name, 0) + node.samples - sum(child.samples for child in node.children.values())
    ordered = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [(name, round(samples / root.samples, 4)) for name, samples in ordered if samples]


def flame_svg(root: Node) -> str:
    """Draw the tree, callers above what they call; empty text without samples. Names and shares are in the titles."""
    if not root.samples:
        return ""
    parts: list[str] = []
    depth = 0
    row = [(root, 0.0)]
    while row:
        below = []
        for node, x in row:
            width = node.samples / root.samples * WIDTH
            parts.append(_box(node, x, depth, width, node.samples / root.samples))
            for child in sorted(node.children.values(), key=lambda each: each.name):
                wide = child.samples / root.samples * WIDTH
                if wide >= MIN_PX:
                    below.append((child, x))
                x += wide
        row, depth = below, depth + 1
    return f'<svg viewBox="0 0 {WIDTH:g} {depth * ROW}" role="img">{"".join(parts)}</svg>'


def _box(node: Node, x: float, depth: int, width: float, share: float) -> str:
    hue = 18 + zlib.crc32(node.name.encode()) % 38
    y = depth * ROW
    label = (
        node.name if len(node.name) * CHARACTER_PX <= width - 4 else node.name[: max(int(width / CHARACTER_PX) - 2, 0)]
    )
    text = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(label)}</text>' if len(label) > 2 else ""
    return (
        f'<g><title>{escape(node.name)}: {100 * share:.1f} %</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
        f'height="{ROW - 1}" fill="hsl({hue} 80% 68%)"/>{text}</g>'
    )
