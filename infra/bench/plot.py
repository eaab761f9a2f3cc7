"""Plots as SVG text: lines over an axis, and stacked bars. Pure; nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

COLOURS: Final = (
    *("#3b6fb6", "#d1495b", "#2e8b57", "#c98a1b", "#7a5195", "#4aa3a2", "#9c6644", "#6b7280"),
    *("#b5179e", "#5a7d2a", "#0077b6", "#e07a5f"),
)
WIDTH: Final = 640
HEIGHT: Final = 260
LEFT: Final = 56
RIGHT: Final = 150
TOP: Final = 12
BOTTOM: Final = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y) points; a point whose y is None breaks the line."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands along an axis. ``limit`` draws a dashed line at a value; ``log`` only for the vertical one."""

    label: str
    log: bool = False
    limit: float | None = None


def line_plot(lines: Sequence[Line], across: Axis, up: Axis) -> str:
    """Draw lines; empty text when no line has a point."""
    points = [(x, y) for line in lines for x, y in line.points if y is not None and (y > 0 or not up.log)]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points] + ([up.limit] if up.limit else [])
    horizontal = _Scale.of(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    low = min(ys) if up.log else 0.0
    vertical = _Scale.of(low, max(ys), HEIGHT - BOTTOM, TOP, log=up.log)
    parts = [_frame(horizontal, vertical, across.label, up.label)]
    if up.limit is not None:
        y = vertical.at(up.limit)
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_path(line, horizontal, vertical, colour))
        parts.append(_legend(number, line.name, colour))
    return _svg(parts)


def bar_plot(bars: Mapping[str, Mapping[str, float]], up: Axis) -> str:
    """Draw a stack per bar: its parts by name, the same colour for the same name; empty text without bars."""
    totals = [sum(parts.values()) for parts in bars.values()]
    if not totals or max(totals) <= 0:
        return ""
    names = sorted({name for parts in bars.values() for name in parts}, key=lambda name: -_most(bars, name))
    vertical = _Scale.of(0.0, max([*totals, up.limit or 0.0]), HEIGHT - BOTTOM, TOP)
    parts = [_frame(None, vertical, "", up.label)]
    width = (WIDTH - LEFT - RIGHT) / len(bars)
    for place, (label, stack) in enumerate(bars.items()):
        x, base = LEFT + width * place, 0.0
        for number, name in enumerate(names):
            value = stack.get(name, 0.0)
            top, bottom = vertical.at(base + value), vertical.at(base)
            base += value
            parts.append(
                f'<rect x="{x + width * 0.15:.1f}" y="{top:.1f}" width="{width * 0.7:.1f}" '
                f'height="{max(bottom - top, 0):.1f}" fill="{COLOURS[number % len(COLOURS)]}">'
                f"<title>{escape(label)}, {escape(name)}: {value:g}</title></rect>"
            )
        text = escape(label if len(label) <= width / 6.2 else label[: max(int(width / 6.2) - 1, 1)] + "…")
        parts.append(f'<text class="tick" x="{x + width / 2:.1f}" y="{HEIGHT - BOTTOM + 14}">{text}</text>')
    parts += [_legend(number, name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(names[:14])]
    return _svg(parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels, linear or by logarithm, with round ticks."""

    low: float
    high: float
    first_px: float
    last_px: float
    log: bool

    @classmethod
    def of(cls, low: float, high: float, first_px: float, last_px: float, *, log: bool = False) -> _Scale:
        if log:
            low, high = 10 ** math.floor(math.log10(max(low, 1e-6))), 10 ** math.ceil(math.log10(max(high, 1e-6)))
            return cls(low, high if high > low else low * 10, first_px, last_px, log)
        return cls(low, high if high - low > 1e-9 else low + 1, first_px, last_px, log)

    def at(self, value: float) -> float:
        if self.log:
            share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first_px + share * (self.last_px - self.first_px)

    def ticks(self) -> list[float]:
        if self.log:
            return [10.0**power for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, int(self.high / step * 1.0001) + 1)]


def _frame(horizontal: _Scale | None, vertical: _Scale, across: str, up: str) -> str:
    parts = []
    for value in vertical.ticks():
        y = vertical.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>')
    for value in horizontal.ticks() if horizontal else ():
        x = horizontal.at(value) if horizontal else 0.0
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}">{value:g}</text>')
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 8}">{escape(across)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="tick" transform="translate(12 {middle:.1f}) rotate(-90)">{escape(up)}</text>')
    return "".join(parts)


def _path(line: Line, horizontal: _Scale, vertical: _Scale, colour: str) -> str:
    words, dots, pen = [], [], "M"
    for x, y in line.points:
        if y is None or (vertical.log and y <= 0):
            pen = "M"
            continue
        px, py = horizontal.at(x), vertical.at(y)
        words.append(f"{pen}{px:.1f} {py:.1f}")
        dots.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2" fill="{colour}">'
            f"<title>{escape(line.name)}: {y:g} at {x:g}</title></circle>"
        )
        pen = "L"
    return f'<path d="{" ".join(words)}" fill="none" stroke="{colour}" stroke-width="1.5"/>{"".join(dots)}'


def _legend(number: int, name: str, colour: str) -> str:
    x, y = WIDTH - RIGHT + 12, TOP + 8 + 16 * number
    return (
        f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{colour}"/>'
        f'<text class="name" x="{x + 15}" y="{y + 1}">{escape(name)}</text>'
    )


def _most(bars: Mapping[str, Mapping[str, float]], name: str) -> float:
    return max(parts.get(name, 0.0) for parts in bars.values())


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
