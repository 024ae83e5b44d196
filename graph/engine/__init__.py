"""Facts closed under rules: derived in order of proof height, each with a shortest proof, and kept so under change.

``RuleGraph.build(program, facts)`` answers an immutable graph; in bulk, ``build(program, tables=[Table(...)])`` takes
columns of texts (lists, polars) or, with ``names=``, integers that are places in it. ``graph.columns(predicate)`` gives
facts back as ids int32[n, arity] and ``graph.names()`` the texts by id. ``extend`` lays a layer over a graph;
``LiveGraph(graph)`` inserts and deletes in place. What models predict (``predicted=[(fact, probability)]``) is kept
under ``~predicate``, apart from what holds.
"""

from graph.engine.graph import DEFAULT_MAX_FACTS, DEFAULT_MAX_SECONDS, RuleGraph
from graph.engine.live import Change, LiveGraph
from graph.engine.told import Table

__all__ = ["DEFAULT_MAX_FACTS", "DEFAULT_MAX_SECONDS", "Change", "LiveGraph", "RuleGraph", "Table"]
