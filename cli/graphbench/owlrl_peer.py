"""owlrl over rdflib as a peer: RDFS entailment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import owlrl  # type: ignore[import-untyped]
from rdflib import RDF, RDFS, Graph, URIRef

from cli.graphbench.peers import Answer, vocabulary
from cli.graphbench.workloads import Workload


class OwlrlJob:
    """owlrl's RDFS closure without axiomatic triples; a transitive closure is stated as one of ``rdfs:subClassOf``."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.names = vocabulary(workload)
        spaces = {"rdf": str(RDF), "rdfs": str(RDFS)}
        parts = (name.rpartition(":") for name in self.names)
        self.nodes = [URIRef(spaces.get(space, "urn:bench:") + name) for space, _, name in parts]
        self.places: dict[Any, int] = {node: i for i, node in enumerate(self.nodes)}

    def ready(self) -> Callable[[], Graph]:
        graph = Graph()
        for row in next(iter(self.workload.tables.values())).tolist():
            nodes = [self.nodes[place] for place in row]
            graph.add((nodes[0], RDFS.subClassOf, nodes[1]) if len(nodes) == 2 else (nodes[0], nodes[1], nodes[2]))
        closure = owlrl.DeductiveClosure(owlrl.RDFS_Semantics, axiomatic_triples=False, datatype_axioms=False)

        def run() -> Graph:
            closure.expand(graph)
            return graph

        return run

    def count(self, derived: Graph) -> int:
        if self.workload.kind == "closure":
            return sum(1 for _ in derived.subject_objects(RDFS.subClassOf))
        return len(derived)

    def fetch(self, derived: Graph) -> Answer:
        place = self.places.__getitem__
        if self.workload.kind == "closure":
            return {"path": [(place(a), place(b)) for a, b in derived.subject_objects(RDFS.subClassOf)]}
        return {"triple": [tuple(map(place, triple)) for triple in derived]}

    def spelling(self, _: Any) -> Sequence[str]:
        return self.names
