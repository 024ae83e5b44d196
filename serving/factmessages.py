"""Facts and proofs as messages of the Graph service, for both ends of it. Light: a client imports this."""

from __future__ import annotations

from collections.abc import Sequence

from graph.ports import Fact, Proof
from protos.tandem.v1 import graph_pb2


def fact_message(fact: Fact) -> graph_pb2.Fact:
    return graph_pb2.Fact(predicate=fact.predicate, args=fact.args)


def fact_of(message: graph_pb2.Fact) -> Fact:
    return Fact(message.predicate, tuple(message.args))


def proof_of(steps: Sequence[graph_pb2.ProofStep]) -> Proof:
    """The proof of an ExplainReply; a fact that several rest on is one object."""
    proofs: list[Proof] = []
    for step in steps:
        proofs.append(
            Proof(
                fact_of(step.fact),
                step.rule or None,
                step.source,
                tuple(proofs[premise] for premise in step.premises),
                step.probability if step.HasField("probability") else None,
                tuple(map(fact_of, step.absent)),
                tuple(step.aggregates),
            )
        )
    return proofs[-1]
