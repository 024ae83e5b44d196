"""Messages of the Graph service to values and back; bounds are checked on the way in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from graph.ports import Fact, Proof
from graph.rules.syntax import is_predicted, predicted
from graph.steps import steps
from protos.tandem.v1 import graph_pb2, types_pb2
from serving.clock import RequestClock
from serving.codec import Codec
from serving.config import Limits
from serving.errors import InvalidRequest
from serving.factlog import Told
from serving.factmessages import fact_message
from serving.facts import Recorded, Retracted
from serving.knowledge import Knowledge
from serving.pipeline.graph import FactPage, FactQuery
from serving.pipeline.questions import AnswerPage, LiteralsQuery
from serving.services import Services

_ARITY: Final = 16
_PAGE: Final = 100
_TOKEN: Final = 4_096
_LITERALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ExplainQuery:
    """A fact that somebody asks a proof of."""

    request_id: str
    deadline_ms: int
    fact: Fact


class GraphCodec:
    """Translates within ``limits``; ids and deadlines as ``codec`` does."""

    def __init__(self, codec: Codec, limits: Limits) -> None:
        self._codec = codec
        self._limits = limits

    def fact_query(self, request: graph_pb2.QueryRequest) -> FactQuery | LiteralsQuery:
        """Raises InvalidRequest for a value out of bounds, and for a request of both a pattern and literals."""
        if request.page_size > self._limits.facts:
            raise InvalidRequest(f"page_size is {request.page_size}; at most {self._limits.facts} facts fit on a page")
        if len(request.page_token) > _TOKEN:
            raise InvalidRequest("page_token is none of ours; send next_page_token as it came")
        if request.literals:
            return self._literals(request)
        pattern = self._fact("pattern", request.pattern)
        # Each lone "?" is a variable of its own; a name with NUL is nobody else's.
        args = tuple(f"?\0{place}" if arg == "?" else arg for place, arg in enumerate(pattern.args))
        return FactQuery(
            self._codec.request_id(request.request_id),
            self._codec.deadline_ms(request.deadline_ms),
            Fact(pattern.predicate, args),
            request.page_size or min(_PAGE, self._limits.facts),
            request.page_token,
        )

    def _literals(self, request: graph_pb2.QueryRequest) -> LiteralsQuery:
        if request.HasField("pattern"):
            raise InvalidRequest("the request holds a pattern and literals; send one of them")
        if len(request.literals) > _LITERALS:
            raise InvalidRequest(f"literals has {len(request.literals)} characters; at most {_LITERALS} are read")
        return LiteralsQuery(
            self._codec.request_id(request.request_id),
            self._codec.deadline_ms(request.deadline_ms),
            request.literals,
            request.page_size or min(_PAGE, self._limits.facts),
            request.page_token,
        )

    def explain_query(self, request: graph_pb2.ExplainRequest) -> ExplainQuery:
        """Raises InvalidRequest for a value out of bounds or a variable."""
        fact = self._fact("fact", request.fact)
        free = [arg for arg in fact.args if arg.startswith("?")]
        if free:
            raise InvalidRequest(f"fact holds the variable {free[0]!r}; ask Query for facts, then Explain one of them")
        return ExplainQuery(
            self._codec.request_id(request.request_id), self._codec.deadline_ms(request.deadline_ms), fact
        )

    def assertions(self, request: graph_pb2.AssertRequest) -> list[Told]:
        """Raises InvalidRequest: all facts are taken or none."""
        source = self._source(request.source)
        if not source:
            raise InvalidRequest("source is empty; say who asserts: a service, a person, a model and its version")
        self._count(len(request.facts))
        told = []
        for number, assertion in enumerate(request.facts):
            where = f"facts[{number}]"
            fact = self._fact(f"{where}.fact", assertion.fact)
            if not assertion.HasField("probability"):
                if is_predicted(fact.predicate):
                    raise InvalidRequest(f"{where} is a prediction without a probability; set it, or drop the '~'")
                told.append(Told(fact, source))
                continue
            if not (math.isfinite(assertion.probability) and 0 <= assertion.probability <= 1):
                raise InvalidRequest(f"{where}.probability is {assertion.probability}; give a number from 0 to 1")
            predicate = fact.predicate if is_predicted(fact.predicate) else predicted(fact.predicate)
            told.append(Told(Fact(predicate, fact.args), source, assertion.probability))
        return told

    def retracted_facts(self, request: graph_pb2.RetractRequest) -> tuple[list[Fact], str]:
        """The facts and whose word on them is taken back. Raises InvalidRequest."""
        self._count(len(request.facts))
        facts = [self._fact(f"facts[{number}]", fact) for number, fact in enumerate(request.facts)]
        return facts, self._source(request.source)

    def _count(self, given: int) -> None:
        if not given:
            raise InvalidRequest("facts is empty; send at least one fact")
        if given > self._limits.facts:
            raise InvalidRequest(f"{given} facts; at most {self._limits.facts} go into one call")

    def _fact(self, where: str, message: graph_pb2.Fact) -> Fact:
        if not message.predicate or not message.args:
            raise InvalidRequest(f"{where} has no {'args' if message.predicate else 'predicate'}; a fact has both")
        if len(message.args) > _ARITY:
            raise InvalidRequest(f"{where} has {len(message.args)} arguments; at most {_ARITY} are read")
        return Fact(
            self._name(f"{where}.predicate", message.predicate),
            tuple(self._name(f"{where}.args[{place}]", arg) for place, arg in enumerate(message.args)),
        )

    def _source(self, source: str) -> str:
        return " ".join(self._name("source", source).split())

    def _name(self, where: str, value: str) -> str:
        if len(value) > self._limits.id_length:
            raise InvalidRequest(f"{where} has {len(value)} characters; at most {self._limits.id_length} are read")
        if "\x00" in value:
            raise InvalidRequest(f"{where} holds a NUL character; remove it")
        return value


def query_reply(query: FactQuery, page: FactPage, release: str, clock: RequestClock) -> graph_pb2.QueryReply:
    return graph_pb2.QueryReply(
        request_id=query.request_id,
        release=release,
        facts=[fact_message(fact) for fact in page.facts],
        next_page_token=page.next_page_token,
        stages=_stages(query.request_id, release, clock),
    )


def answers_reply(query: LiteralsQuery, page: AnswerPage, release: str, clock: RequestClock) -> graph_pb2.QueryReply:
    return graph_pb2.QueryReply(
        request_id=query.request_id,
        release=release,
        variables=page.variables,
        answers=[graph_pb2.Answer(values=values) for values in page.answers],
        next_page_token=page.next_page_token,
        stages=_stages(query.request_id, release, clock),
    )


def explain_reply(query: ExplainQuery, proof: Proof, services: Services, clock: RequestClock) -> graph_pb2.ExplainReply:
    """The proof of a fact under these services; of what a service asserted the source is who said so and when."""
    return graph_pb2.ExplainReply(
        request_id=query.request_id,
        release=services.release.id,
        steps=_steps(proof, services.knowledge),
        stages=_stages(query.request_id, services.release.id, clock),
    )


def assert_reply(request_id: str, answer: Recorded) -> graph_pb2.AssertReply:
    return graph_pb2.AssertReply(request_id=request_id, recorded=answer.recorded, unchanged=answer.unchanged)


def retract_reply(request_id: str, answer: Retracted) -> graph_pb2.RetractReply:
    return graph_pb2.RetractReply(
        request_id=request_id,
        retracted=answer.retracted,
        unknown=[fact_message(fact) for fact in answer.unknown],
    )


def _steps(proof: Proof, knowledge: Knowledge) -> list[graph_pb2.ProofStep]:
    return [
        graph_pb2.ProofStep(
            fact=fact_message(each.fact),
            kind=_kind(each),
            rule=each.rule or "",
            source=each.source if each.rule else knowledge.provenance(each.fact) or each.source,
            probability=each.probability,
            premises=premises,
            absent=map(fact_message, each.absent),
            aggregates=each.aggregates,
        )
        for each, premises in steps(proof)
    ]


def _kind(proof: Proof) -> graph_pb2.FactKind:
    if proof.probability is not None or is_predicted(proof.fact.predicate):
        return graph_pb2.FACT_KIND_PREDICTED
    return graph_pb2.FACT_KIND_ASSERTED if proof.rule is None else graph_pb2.FACT_KIND_DERIVED


def _stages(request_id: str, release: str, clock: RequestClock) -> list[types_pb2.Stage]:
    return [types_pb2.Stage(name=stage.name, ms=stage.ms) for stage in clock.header(request_id, release).stages]
