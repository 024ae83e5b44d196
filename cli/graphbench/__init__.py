"""``tandem bench graph``: the engine next to clingo, owlrl and networkx on the same facts and rules, in one process."""
