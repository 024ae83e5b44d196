"""Paths between things: shortest, each hop a fact that holds, the same as an independent search finds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.engine import RuleGraph
from graph.errors import NotDerived, UnknownPredicate
from graph.ontology import load
from graph.paths import Hop, paths
from graph.ports import Fact
from graph.rules.reader import parse

FAMILY = [
    Fact("mother", ("Mary Lee Pfeiffer", "Tom Cruise")),
    Fact("wife", ("Nicole Kidman", "Tom Cruise")),
    Fact("son", ("Connor", "Nicole Kidman")),
]
RELATIONS = ("child", "mother", "father", "husband", "wife", "son", "daughter")


def test_path_shows_each_fact_with_its_direction() -> None:
    graph = load("family").extend(FAMILY, "a biography")
    (path,) = paths(graph, "Mary Lee Pfeiffer", "Connor", RELATIONS)
    assert [str(hop) for hop in path] == [
        "Mary Lee Pfeiffer --mother--> Tom Cruise",
        "Tom Cruise <--wife-- Nicole Kidman",
        "Nicole Kidman <--son-- Connor",
    ]
    assert all(graph.holds(hop.fact) for hop in path)


def test_hop_that_is_derived_comes_with_its_proof() -> None:
    graph = load("family").extend(FAMILY, "a biography")
    (path,) = paths(graph, "Tom Cruise", "Mary Lee Pfeiffer", ["child"])
    (hop,) = path
    assert hop.proof == graph.prove(Fact("child", ("Tom Cruise", "Mary Lee Pfeiffer")))
    assert hop.proof.rule is not None


def test_several_paths_come_shortest_first_and_differ() -> None:
    program = parse(".decl road(a, b)\n")
    roads = [("a", "b"), ("b", "z"), ("a", "c"), ("c", "d"), ("d", "z"), ("a", "z")]
    graph = RuleGraph.build(program, [Fact("road", road) for road in roads])
    found = paths(graph, "a", "z", ["road"], most=10)
    assert [len(path) for path in found] == [1, 2, 3]
    assert len(paths(graph, "a", "z", ["road"], most=2)) == 2


def test_path_from_a_thing_to_itself_is_empty() -> None:
    assert paths(load("family").extend(FAMILY, "x"), "Connor", "Connor", RELATIONS) == [()]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [("Tom Cruise", "Tom Crusoe", "names 'Tom Crusoe'; check its spelling"), ("Tom Cruise", "Stranger", "no path")],
)
def test_what_is_not_related_is_said_so_with_the_remedy(start: str, end: str, message: str) -> None:
    graph = load("family").extend([*FAMILY, Fact("son", ("Stranger", "Other"))], "a biography")
    with pytest.raises(NotDerived, match=message):
        paths(graph, start, end, RELATIONS)


def test_predicate_nobody_declared_is_named() -> None:
    with pytest.raises(UnknownPredicate, match="mothr"):
        paths(load("family"), "a", "b", ["mothr"])


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=14), st.data())
def test_path_is_as_short_as_breadth_first_search_finds(roads: set[tuple[int, int]], data: st.DataObject) -> None:
    graph = RuleGraph.build(parse(".decl road(a, b)\n"), [Fact("road", (str(a), str(b))) for a, b in roads])
    towns = sorted({town for road in roads for town in road})
    start, end = data.draw(st.sampled_from(towns)), data.draw(st.sampled_from(towns))
    distance, frontier, steps = {start: 0}, {start}, 0
    while frontier:
        steps += 1
        frontier = {b if a in frontier else a for a, b in roads if (a in frontier) != (b in frontier)} - set(distance)
        distance |= dict.fromkeys(frontier, steps)
    if end not in distance:
        with pytest.raises(NotDerived):
            paths(graph, str(start), str(end), ["road"])
        return
    (path,) = paths(graph, str(start), str(end), ["road"])
    assert len(path) == distance[end]
    assert stops(str(start), path)[-1] == str(end)


def stops(start: str, path: tuple[Hop, ...]) -> list[str]:
    """The things a path meets; fails where a hop does not begin where the last one ended."""
    met = [start]
    for hop in path:
        first, second = hop.fact.args if hop.forward else hop.fact.args[::-1]
        assert first == met[-1]
        met.append(second)
    assert all(one != other for one, other in pairwise(met))
    return met
