"""Facts and proofs as networkx graphs, and those as DOT text. The one file of `graph` that knows networkx."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from graph.ports import Fact, KnowledgeGraph, Proof


def proof_graph(proof: Proof) -> nx.DiGraph:
    """One node a fact (``rule``, ``source``, ``probability``) or condition (a text, with ``why`` it is true), an edge
    from each premise and condition to what it proves (``label``: the rule)."""
    drawn = nx.DiGraph()
    waiting = [proof]
    while waiting:
        current = waiting.pop()
        if current.fact in drawn and "source" in drawn.nodes[current.fact]:
            continue
        drawn.add_node(current.fact, rule=current.rule, source=current.source, probability=current.probability)
        for premise in current.premises:
            drawn.add_edge(premise.fact, current.fact, label=current.rule)
            waiting.append(premise)
        for text, why in current.conditions():
            drawn.add_node(text, why=why)
            drawn.add_edge(text, current.fact, label=current.rule)
    return drawn


def facts_graph(graph: KnowledgeGraph, predicates: Iterable[str]) -> nx.MultiDiGraph:
    """The two-place facts of the predicates: an edge from the first to the second argument, labelled and keyed so."""
    drawn = nx.MultiDiGraph()
    for predicate in predicates:
        for fact in graph.query(Fact(predicate, ("?from", "?to"))):
            drawn.add_edge(*fact.args, key=predicate, label=predicate)
    return drawn


def to_dot(drawn: nx.DiGraph | nx.MultiDiGraph) -> str:
    """Graphviz DOT, the same text for equal graphs. Asserted facts of a proof are boxes, predicted ones dashed, and
    what is no fact (an absence, an aggregate) is bare text."""
    lines = ["digraph {", "  rankdir=BT;"]
    for node, data in sorted(drawn.nodes(data=True), key=lambda pair: str(pair[0])):
        shape = "box" if data.get("source") and data.get("rule") is None else "ellipse"
        if why := data.get("why"):
            lines.append(f"  {_quoted(node)} [shape=plaintext, label={_quoted(f'{node}: {why}')}];")
            continue
        style = ", style=dashed" if data.get("probability") is not None else ""
        lines.append(f"  {_quoted(node)} [shape={shape}{style}];")
    for start, end, data in sorted(drawn.edges(data=True), key=lambda edge: (str(edge[0]), str(edge[1]), str(edge[2]))):
        lines.append(f"  {_quoted(start)} -> {_quoted(end)} [label={_quoted(data.get('label', ''))}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
