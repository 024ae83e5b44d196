"""The one table from error classes to gRPC codes, and to what a client is told."""

from __future__ import annotations

from typing import Final

import grpc

from features import errors as features
from graph import errors as graph
from models import errors as models
from serving import errors as serving

CODES: Final[dict[type[Exception], grpc.StatusCode]] = {
    serving.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    serving.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    serving.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    serving.NotAsserted: grpc.StatusCode.FAILED_PRECONDITION,
    serving.NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    serving.NotFound: grpc.StatusCode.NOT_FOUND,
    serving.CaseTaken: grpc.StatusCode.FAILED_PRECONDITION,
    serving.BackfillFailed: grpc.StatusCode.FAILED_PRECONDITION,
    serving.BudgetExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    serving.ServingError: grpc.StatusCode.INTERNAL,
    features.InvalidEvent: grpc.StatusCode.INVALID_ARGUMENT,
    features.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    features.SchemaMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    features.WorkspaceError: grpc.StatusCode.FAILED_PRECONDITION,
    features.FeatureError: grpc.StatusCode.INTERNAL,
    models.ArtifactMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    models.PromptTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    models.EngineTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    models.EngineUnavailable: grpc.StatusCode.UNAVAILABLE,
    models.EngineLoading: grpc.StatusCode.UNAVAILABLE,
    models.UnusableAnswer: grpc.StatusCode.UNAVAILABLE,
    models.MissingExtra: grpc.StatusCode.FAILED_PRECONDITION,
    models.InvalidVocabulary: grpc.StatusCode.FAILED_PRECONDITION,
    models.ModelError: grpc.StatusCode.INTERNAL,
    graph.UnknownPredicate: grpc.StatusCode.INVALID_ARGUMENT,
    graph.NotDerived: grpc.StatusCode.NOT_FOUND,
    graph.RuleSyntaxError: grpc.StatusCode.FAILED_PRECONDITION,
    graph.OntologyError: grpc.StatusCode.FAILED_PRECONDITION,
    graph.FactLimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    graph.TimeLimitExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    graph.NotANumber: grpc.StatusCode.INVALID_ARGUMENT,
    graph.UnknownValue: grpc.StatusCode.INVALID_ARGUMENT,
    graph.GraphError: grpc.StatusCode.INTERNAL,
}

INTERNAL_TEXT: Final = "internal error; the service's log has it under this request id"
_WITHHELD: Final = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}
)
_FIXED: Final = {
    grpc.StatusCode.INTERNAL: INTERNAL_TEXT,
    grpc.StatusCode.UNAVAILABLE: "a store or engine the call needs does not answer; try again shortly",
    grpc.StatusCode.FAILED_PRECONDITION: "the service's artifacts do not fit together; its log names the remedy",
}


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """The code and the text for a client: ours where the message was written for one, a fixed text otherwise.

    An exception's own text may hold paths, addresses or data, so only errors written for clients show theirs.
    """
    for kind in type(error).__mro__:
        if kind in CODES:
            code = CODES[kind]
            if isinstance(error, serving.ServingError) and code is not grpc.StatusCode.INTERNAL:
                return code, str(error)
            return code, _FIXED[code] if code in _WITHHELD else str(error)
    return grpc.StatusCode.INTERNAL, INTERNAL_TEXT
