"""Plots as inline SVG: horizontal dots with intervals, lines, and bars. Colours are CSS variables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

_WIDTH: Final = 760
_ROW: Final = 26
_TOP: Final = 14
_BOTTOM: Final = 44
_RIGHT: Final = 96
STYLES: Final = 8
"""Styles of lines, ``line0`` on: the page gives each a colour and dashes."""


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a plot. ``low`` and ``high`` None: no interval. ``strong`` marks it out."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A named series over the plot's shared positions; None leaves a gap."""

    name: str
    values: Sequence[float | None]
    strong: bool = False


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers that cover [low, high]; at least two."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / about
    unit = 10.0 ** floor(log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _label(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"


def intervals(title: str, points: Sequence[Point], axis: str, zero: bool = True) -> str:
    """One row a point: a dot, its interval as a line, and the numbers. ``zero``: the axis shows 0, with a line."""
    lows = [point.value if point.low is None else point.low for point in points]
    highs = [point.value if point.high is None else point.high for point in points]
    marks = ticks(min([*lows, 0.0] if zero else lows), max([*highs, 0.0] if zero else highs))
    left = _left(points)
    scale = _Scale(marks[0], marks[-1], left, _WIDTH - _RIGHT)
    body = [_grid(scale, marks, len(points), axis)]
    if zero:
        body.append(
            f'<line class="zero" x1="{scale(0):.1f}" x2="{scale(0):.1f}" y1="{_TOP}" y2="{_floor(len(points))}"/>'
        )
    for number, point in enumerate(points):
        y = _TOP + _ROW * (number + 0.5)
        kind = "strong" if point.strong else "plain"
        body.append(_row_label(point, left, y))
        if point.low is not None and point.high is not None:
            body.append(
                f'<line class="span {kind}" x1="{scale(point.low):.1f}" x2="{scale(point.high):.1f}" '
                f'y1="{y}" y2="{y}"/>'
            )
        body.append(f'<circle class="{kind}" cx="{scale(point.value):.1f}" cy="{y}" r="4.5"/>')
        body.append(f'<text class="value" x="{_WIDTH - _RIGHT + 12}" y="{y + 4}">{escape(point.note)}</text>')
    return _svg(title, _summary(points), _floor(len(points)) + _BOTTOM, body)


def bars(title: str, points: Sequence[Point], axis: str) -> str:
    """One bar a point, from 0."""
    marks = ticks(0.0, max([point.value for point in points], default=1.0))
    left = _left(points)
    scale = _Scale(marks[0], marks[-1], left, _WIDTH - _RIGHT)
    body = [_grid(scale, marks, len(points), axis)]
    for number, point in enumerate(points):
        y = _TOP + _ROW * (number + 0.5)
        width = max(0.0, scale(point.value) - scale(0))
        body.append(_row_label(point, left, y))
        body.append(f'<rect class="plain" x="{scale(0):.1f}" y="{y - 8}" width="{width:.1f}" height="16" rx="2"/>')
        body.append(f'<text class="value" x="{_WIDTH - _RIGHT + 12}" y="{y + 4}">{escape(point.note)}</text>')
    return _svg(title, _summary(points), _floor(len(points)) + _BOTTOM, body)


def lines(title: str, positions: Sequence[str], series: Sequence[Line], axis: str) -> str:
    """Series over named positions; each is labelled at its end, and told apart by its dashes as well as its colour."""
    values = [value for line in series for value in line.values if value is not None]
    marks = ticks(0.0, max(values, default=1.0))
    height, left, right = 320, 56, _WIDTH - 130
    scale = _Scale(marks[0], marks[-1], height - _BOTTOM, _TOP)
    step = (right - left) / max(1, len(positions) - 1)
    body = []
    for mark in marks:
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{scale(mark):.1f}" y2="{scale(mark):.1f}"/>')
        body.append(
            f'<text class="tick" text-anchor="end" x="{left - 8}" y="{scale(mark) + 4:.1f}">{_label(mark)}</text>'
        )
    for number, position in enumerate(positions):
        x = left + step * number
        body.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{height - 24}">{escape(position)}</text>')
    body.append(
        f'<text class="axis" text-anchor="middle" x="{(left + right) / 2}" y="{height - 6}">{escape(axis)}</text>'
    )
    ends = _apart([(scale(last), line) for line in series if (last := _last(line)) is not None])
    for number, line in enumerate(series):
        kind = "strong" if line.strong else f"line{number % STYLES}"
        dots = [(left + step * at, scale(value)) for at, value in enumerate(line.values) if value is not None]
        body.append(
            f'<polyline class="{kind}" style="fill: none" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in dots)}"/>'
        )
        body += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
        if line.name in ends:
            body.append(
                f'<text class="end {kind}" x="{right + 10}" y="{ends[line.name] + 4:.1f}">{escape(line.name)}</text>'
            )
    told = "; ".join(
        f"{line.name}: " + ", ".join("none" if value is None else f"{value:.4f}" for value in line.values)
        for line in series
    )
    return _svg(title, f"{axis} {', '.join(positions)}. {told}", height, body)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Linear, from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _last(line: Line) -> float | None:
    return next((value for value in reversed(line.values) if value is not None), None)


def _apart(ends: list[tuple[float, Line]], least: float = 15.0) -> dict[str, float]:
    """Heights of the labels at the lines' ends, moved down where they would overlap."""
    placed: dict[str, float] = {}
    below = -1e9
    for y, line in sorted(ends, key=lambda entry: entry[0]):
        below = max(y, below + least)
        placed[line.name] = below
    return placed


def _left(points: Sequence[Point]) -> float:
    return min(320.0, 24.0 + 8.0 * max((len(point.label) for point in points), default=0))


def _floor(rows: int) -> float:
    return _TOP + _ROW * rows


def _grid(scale: _Scale, marks: Sequence[float], rows: int, axis: str) -> str:
    bottom = _floor(rows)
    parts = [
        f'<line class="grid" x1="{scale(mark):.1f}" x2="{scale(mark):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text class="tick" text-anchor="middle" x="{scale(mark):.1f}" y="{bottom + 16}">{_label(mark)}</text>'
        for mark in marks
    ]
    middle = (scale(marks[0]) + scale(marks[-1])) / 2
    return (
        "".join(parts) + f'<text class="axis" text-anchor="middle" x="{middle}" y="{bottom + 36}">{escape(axis)}</text>'
    )


def _row_label(point: Point, left: float, y: float) -> str:
    kind = " strong" if point.strong else ""
    return f'<text class="label{kind}" text-anchor="end" x="{left - 12:.1f}" y="{y + 4}">{escape(point.label)}</text>'


def _summary(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.label}: {point.note or f'{point.value:.4f}'}" for point in points)


def _svg(title: str, description: str, height: float, body: Sequence[str]) -> str:
    """With a title and a description in words, for whoever cannot see it."""
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(body)}</svg>"
    )
