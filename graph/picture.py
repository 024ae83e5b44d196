"""Proofs and facts as SVG, drawn here: no program beside Python is needed, and equal input gives equal bytes.

What is proven stands above what proves it, with the rule's name at the lines between. Boxes tell the three kinds of
facts apart: asserted (square, with its source), derived (round), predicted (dashed, with its probability). What a
``not`` found absent, and the value of an aggregate, stand in boxes of their own.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final
from xml.sax.saxutils import escape

from graph.layout import Layout, Size, layered
from graph.patterns import fact_text
from graph.ports import Fact, Proof
from graph.rules.syntax import is_predicted

MAX_FACTS: Final = 200
"""Facts a picture shows where nothing else is asked; more are counted, not drawn."""
_CHARACTER: Final = 7.25
_LINE: Final = 16.0
_PADDING: Final = 10.0
_LABEL: Final = 18.0
_MARGIN: Final = 16.0
_COLUMNS: Final = 36
_LINES: Final = 3
_STYLE: Final = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1c2330; }
.why { fill: #55606f; }
.rule { fill: #1f5fae; font-style: italic; }
rect { fill: #ffffff; stroke: #55606f; stroke-width: 1.2; }
.asserted { fill: #eef3ea; stroke: #5b7f3f; }
.derived { fill: #eef3fb; stroke: #1f5fae; }
.predicted { fill: #fdf4e3; stroke: #a86a00; stroke-dasharray: 5 4; }
.label { stroke: none; }
.condition { fill: #fbeeee; stroke: #a04848; stroke-dasharray: 1 3; }
.more { fill: #f4f4f4; stroke: #99a1ab; stroke-dasharray: 2 3; }
path { fill: none; stroke: #8a94a3; stroke-width: 1.2; }
"""
_LABELS: Final = "label"
"""The kind of a box that is no thing but what a line between two says."""
# What XML 1.0 cannot hold, however it is written.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Box:
    """One box: a few lines of text, the whole of it as a tooltip, a kind for its look, and the rule below it."""

    text: str
    why: str = ""
    kind: str = "derived"
    rule: str = ""

    @property
    def lines(self) -> list[str]:
        return [*_wrapped(self.text, _LINES), *_wrapped(self.why, 1)]


def proof_svg(proof: Proof, most: int = MAX_FACTS) -> str:
    """The proof as an SVG document. Every fact is drawn once, however often it is used.

    Above ``most`` facts those farthest from the conclusion are left out, and a box says how many premises each lacks.
    """
    shown = _nearest(proof, most)
    names = {fact: f"n{number}" for number, fact in enumerate(shown)}
    boxes = {names[fact]: _proof_box(each) for fact, each in shown.items()}
    edges: list[tuple[str, str]] = []
    number = count()
    numbers: dict[str, int] = {}
    for fact, each in shown.items():
        premises = list(dict.fromkeys(premise.fact for premise in each.premises))
        edges += [(names[fact], names[premise]) for premise in premises if premise in names]
        hidden = sum(premise not in names for premise in premises)
        if hidden:
            more = f"m{next(number)}"
            boxes[more] = Box(f"… {hidden} more premise{'s' if hidden > 1 else ''}", kind="more")
            edges.append((names[fact], more))
        for text, why in each.conditions(fact_text):
            condition = f"c{numbers.setdefault(text, len(numbers))}"
            boxes[condition] = Box(text, why, kind="condition")
            edges.append((names[fact], condition))
    return _svg(boxes, edges, f"Proof of {fact_text(proof.fact)}")


def facts_svg(facts: Iterable[Fact]) -> str:
    """Two-place facts as an SVG document: a box a thing, a line from the first to the second, labelled."""
    labels: dict[tuple[str, str], list[str]] = {}
    for fact in sorted(facts):
        first, second = fact.args
        labels.setdefault((first, second), []).append(fact.predicate)
    names = {thing: f"n{number}" for number, thing in enumerate(dict.fromkeys(x for pair in labels for x in pair))}
    boxes = {name: Box(thing, kind="thing") for thing, name in names.items()}
    edges: list[tuple[str, str]] = []
    # A label has a place like a box, so that none covers another.
    for number, ((first, second), said) in enumerate(labels.items()):
        boxes[f"l{number}"] = Box(", ".join(said), kind=_LABELS)
        edges += [(names[first], f"l{number}"), (f"l{number}", names[second])]
    return _svg(boxes, edges, "Facts")


def _nearest(proof: Proof, most: int) -> dict[Fact, Proof]:
    """The first ``most`` facts of the proof, breadth first from the conclusion."""
    found = {proof.fact: proof}
    level = [proof]
    while level:
        below: list[Proof] = []
        for each in level:
            for premise in each.premises:
                if premise.fact not in found and len(found) < most:
                    found[premise.fact] = premise
                    below.append(premise)
        level = below
    return found


def _proof_box(proof: Proof) -> Box:
    probability = proof.probability
    chance = "" if probability is None else f"p = {probability:.3g}"
    if proof.rule is not None:
        kind = "predicted" if is_predicted(proof.fact.predicate) else "derived"
        return Box(fact_text(proof.fact), chance, kind, proof.rule)
    kind = "asserted" if probability is None and not is_predicted(proof.fact.predicate) else "predicted"
    return Box(fact_text(proof.fact), f"{chance} ({proof.source})".strip(), kind)


def _svg(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], title: str) -> str:
    sizes = {name: _size(box) for name, box in boxes.items()}
    layout = layered(sizes, edges)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" role="img">',
        f"<title>{_plain(title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" style="fill:#8a94a3"/></marker></defs>',
        f'<rect width="{width:.1f}" height="{height:.1f}" style="stroke:none"/>',
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">',
        *(_line(edge, boxes, sizes, layout) for edge in dict.fromkeys(edges)),
        *(_drawn(box, layout.at[name], sizes[name]) for name, box in boxes.items()),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _size(box: Box) -> Size:
    columns = max(_columns(line) for line in [*box.lines, *_wrapped(box.rule, 1)])
    rule = _LABEL if box.rule else 0.0
    return Size(columns * _CHARACTER + 2 * _PADDING, len(box.lines) * _LINE + 2 * _PADDING - 4 + rule)


def _drawn(box: Box, at: tuple[float, float], size: Size) -> str:
    x, y = at
    height = size.height - (_LABEL if box.rule else 0.0)
    middle = x + size.width / 2
    rounding = 10 if box.kind == "derived" else 2
    whole = "\n".join(filter(None, (box.text, box.why, f"[{box.rule}]" if box.rule else "")))
    parts = [
        f"<g><title>{_plain(whole)}</title>",
        f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{height:.1f}" '
        f'rx="{rounding}"/>',
    ]
    first_why = len(box.lines) - (1 if box.why else 0)
    for number, line in enumerate(box.lines):
        style = ' class="why"' if number >= first_why else ' class="rule"' if box.kind == _LABELS else ""
        parts.append(_text(line, middle, y + _PADDING + (number + 0.75) * _LINE - 2, style))
    if box.rule:
        parts.append(_text(_wrapped(box.rule, 1)[0], middle, y + height + 13, ' class="rule"'))
    return "".join([*parts, "</g>"])


def _line(edge: tuple[str, str], boxes: Mapping[str, Box], sizes: Mapping[str, Size], layout: Layout) -> str:
    """From the lower rim (below the rule's name) of the first box, through its bends, to the second."""
    (start, end), places = edge, layout.at
    x1, y1 = places[start][0] + sizes[start].width / 2, places[start][1]
    x2, y2 = places[end][0] + sizes[end].width / 2, places[end][1]
    y1, y2 = (y1 + sizes[start].height, y2) if y1 <= y2 else (y1, y2 + sizes[end].height)
    points = [(x1, y1), *layout.bends[edge], (x2, y2)]
    way = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    # A proof needs no arrows: what is above follows from what is below.
    return f'<path d="{way}" marker-end="url(#tip)"/>' if boxes[start].kind == _LABELS else f'<path d="{way}"/>'


def _text(line: str, x: float, y: float, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{style}>{_plain(line)}</text>'


def _wrapped(text: str, most: int) -> list[str]:
    """At most ``most`` lines of ``_COLUMNS``; what does not fit ends in an ellipsis (the tooltip has all of it)."""
    flat = " ".join(_NO_XML.sub("\ufffd", text).split())
    if not flat:
        return []
    narrow = _COLUMNS if _columns(flat) == len(flat) else _COLUMNS // 2
    lines = textwrap.wrap(flat, narrow, break_on_hyphens=False)
    if len(lines) > most:
        last = lines[most - 1]
        lines = [*lines[: most - 1], f"{last[: narrow - 1].rstrip()}…"]
    return lines


def _columns(line: str) -> int:
    """The line's width in characters of a monospaced font: East Asian ones and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def _plain(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))
