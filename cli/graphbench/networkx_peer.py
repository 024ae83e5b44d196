"""networkx as a peer: its own transitive closure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx

from cli.graphbench.peers import Answer
from cli.graphbench.workloads import Workload


class NetworkxJob:
    """``networkx.transitive_closure`` of the graph of edges."""

    def __init__(self, workload: Workload) -> None:
        self.names = workload.names
        self.graph = nx.DiGraph(workload.tables["edge"].tolist())

    def ready(self) -> Callable[[], Any]:
        return lambda: nx.transitive_closure(self.graph)

    def count(self, derived: Any) -> int:
        return int(derived.number_of_edges())

    def fetch(self, derived: Any) -> Answer:
        return {"path": list(derived.edges())}

    def spelling(self, _: Any) -> Sequence[str]:
        return self.names
