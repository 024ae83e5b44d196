"""Pictures of proofs: valid XML that shows every fact once, nothing on top of anything else, the same every time."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.ontology import load
from graph.patterns import fact_text
from graph.picture import MAX_FACTS, facts_svg, proof_svg
from graph.ports import Fact, Proof

ROOT = Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"
NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('<>&"漢🥛\u0000\u202e'), max_size=70)


@dataclass(frozen=True)
class Drawn:
    """A box of a picture: its rectangle, its look, its tooltip and the lines of text in it."""

    left: float
    top: float
    right: float
    bottom: float
    kind: str
    title: str
    lines: tuple[str, ...]


def boxes(svg: str) -> list[Drawn]:
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is None:
            continue
        x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        title = group.findtext(f"{SVG}title") or ""
        lines = tuple(text.text or "" for text in group.iter(f"{SVG}text"))
        found.append(Drawn(x, y, x + width, y + height, rect.attrib["class"], title, lines))
    return found


def ways(svg: str) -> list[list[tuple[float, float]]]:
    (plane,) = ET.fromstring(svg).findall(f"{SVG}g")
    found = []
    for path in plane.iter(f"{SVG}path"):
        points = path.attrib["d"].removeprefix("M").split(" L")
        found.append([(float(x), float(y)) for x, y in (point.split(",") for point in points)])
    return found


def overlap(one: Drawn, other: Drawn) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom


def crosses(box: Drawn, start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether the segment runs through the inside of the box (Liang and Barsky's clipping)."""
    low, high = 0.0, 1.0
    for at, to, near, far in (
        (start[0], end[0], box.left + 0.2, box.right - 0.2),
        (start[1], end[1], box.top + 0.2, box.bottom - 0.2),
    ):
        if at == to:
            if not near < at < far:
                return False
            continue
        first, second = sorted(((near - at) / (to - at), (far - at) / (to - at)))
        low, high = max(low, first), min(high, second)
    return low < high


def check_geometry(svg: str) -> None:
    drawn = boxes(svg)
    assert not [pair for pair in combinations(drawn, 2) if overlap(*pair)]
    for way in ways(svg):
        for start, end in pairwise(way):
            assert not [box for box in drawn if crosses(box, start, end)]
    width, height = (float(ET.fromstring(svg).attrib[name]) for name in ("width", "height"))
    assert all(box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= height for box in drawn)


@st.composite
def proofs(draw: st.DrawFn) -> Proof:
    """Well-founded proofs that share premises, over names of any kind."""
    made = [Proof(Fact("leaf", (str(i), draw(NAMES))), None, draw(NAMES)) for i in range(draw(st.integers(1, 5)))]
    for i in range(draw(st.integers(0, 12))):
        premises = draw(st.lists(st.sampled_from(made), min_size=1, max_size=4))
        made.append(Proof(Fact("node", (str(i), draw(NAMES))), f"rule-{i}", f"rule-{i}", tuple(premises)))
    return made[-1]


def facts_of(proof: Proof) -> set[Fact]:
    found, waiting = {proof.fact}, [proof]
    while waiting:
        for premise in waiting.pop().premises:
            if premise.fact not in found:
                found.add(premise.fact)
                waiting.append(premise)
    return found


def xml_text(value: object) -> str:
    """What XML can hold of a text, as its parser hands it back: line ends are \\n."""
    kept = "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in str(value))
    return kept.replace("\r\n", "\n").replace("\r", "\n")


@given(proofs())
def test_every_fact_is_drawn_once_and_nothing_covers_anything(proof: Proof) -> None:
    svg = proof_svg(proof)
    assert svg == proof_svg(proof)
    check_geometry(svg)
    titles = [box.title for box in boxes(svg)]
    facts = facts_of(proof)
    assert len(titles) == len(facts)
    for fact in facts:
        assert sum(title.startswith(xml_text(fact_text(fact))) for title in titles) >= 1


def test_picture_tells_the_three_kinds_of_facts_apart_with_source_rule_and_shared_premises() -> None:
    facts = [Fact("daughter", ("malia", "barack")), Fact("full_sister", ("sasha", "malia"))]
    proof = load("family").extend(facts, "a friend").prove(Fact("daughter", ("sasha", "barack")))
    drawn = {box.title.splitlines()[0]: box for box in boxes(proof_svg(proof))}
    assert drawn["daughter(sasha, barack)"].kind == "derived"
    assert drawn["daughter(sasha, barack)"].lines == ("daughter(sasha, barack)", "female-child")
    asserted = drawn["full_sister(sasha, malia)"]
    assert (asserted.kind, asserted.lines) == ("asserted", ("full_sister(sasha, malia)", "(a friend)"))
    assert {name for name, box in drawn.items() if box.kind == "asserted"} == {str(fact) for fact in facts}
    # Used twice, drawn once: two lines end at its upper rim.
    ends = [way[-1] for way in ways(proof_svg(proof))]
    assert ends.count(((asserted.left + asserted.right) / 2, asserted.top)) == 2


def test_long_names_are_cut_in_the_box_and_whole_in_its_tooltip() -> None:
    name = "Extra creamy oat drink with vanilla, calcium and vitamins, barista edition, 32 oz carton, pack of six"
    (box,) = boxes(proof_svg(Proof(Fact("product", (name,)), None, "catalog")))
    assert len(box.lines) == 4
    assert max(map(len, box.lines)) <= 36
    assert box.lines[2].endswith("…")
    assert box.title == f'product("{name}")\n(catalog)'


def test_large_proof_is_bounded_and_says_what_is_left_out() -> None:
    proof = Proof(Fact("edge", ("0", "1")), None, "file")
    for i in range(5_000):
        proof = Proof(Fact("reach", (str(i),)), "step", "step", (proof, Proof(Fact("edge", (str(i), "x")), None, "f")))
    svg = proof_svg(proof)
    drawn = boxes(svg)
    check_geometry(svg)
    facts = [box for box in drawn if box.kind != "more"]
    assert len(facts) == MAX_FACTS
    assert facts[0].title.startswith("reach(4999)")
    assert {box.lines[0] for box in drawn if box.kind == "more"} <= {"… 1 more premise", "… 2 more premises"}
    assert [box.kind for box in drawn].count("more") >= 1
    assert len(boxes(proof_svg(proof, most=1))) == 2


def test_facts_between_things_are_drawn_with_labels_that_cover_nothing() -> None:
    graph = load("family").extend(
        [Fact("mother", ("Ann", "Bo")), Fact("full_sister", ("Cy", "Bo")), Fact("wife", ("Ann", "Dan"))], "test"
    )
    svg = facts_svg(
        fact for name in ("mother", "sister", "brother", "child") for fact in graph.query(Fact(name, ("?a", "?b")))
    )
    check_geometry(svg)
    assert {"Ann", "Bo", "Cy"} <= {box.title for box in boxes(svg)}
    assert {"mother", "child", "sister"} <= {box.title for box in boxes(svg) if box.kind == "label"}


def test_no_facts_make_an_empty_picture() -> None:
    assert boxes(facts_svg([])) == []


@pytest.mark.parametrize("seed", ["0", "1"])
def test_picture_does_not_depend_on_the_hash_seed(seed: str) -> None:
    code = (
        "from graph.ontology import load; from graph.ports import Fact; from graph.picture import proof_svg\n"
        "facts = [Fact('daughter', ('malia', 'barack')), Fact('full_sister', ('sasha', 'malia'))]\n"
        "print(proof_svg(load('family').extend(facts, 'f').prove(Fact('daughter', ('sasha', 'barack')))), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = [Fact("daughter", ("malia", "barack")), Fact("full_sister", ("sasha", "malia"))]
    assert done.stdout == proof_svg(load("family").extend(facts, "f").prove(Fact("daughter", ("sasha", "barack"))))
