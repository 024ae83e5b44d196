"""Every error of ours has a code, and no error says more to a client than was written for one."""

from __future__ import annotations

import inspect
from types import ModuleType

import grpc
import pytest

import features.errors
import graph.errors
import models.errors
import serving.errors
from serving.errors import DeadlineExceeded, InvalidRequest, NotAsserted, NotReady, ServingError, Unauthenticated
from serving.status import CODES, INTERNAL_TEXT, status_of

SECRET = "/srv/secret/online.db password=hunter2"
SHOWN = frozenset(
    {
        InvalidRequest,
        Unauthenticated,
        DeadlineExceeded,
        NotAsserted,
        NotReady,
        serving.errors.CaseTaken,
        serving.errors.BackfillFailed,
    }
)


def error_classes(module: ModuleType) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]


ALL = [
    kind for module in (features.errors, graph.errors, models.errors, serving.errors) for kind in error_classes(module)
]


def instance(kind: type[Exception]) -> Exception:
    if kind is graph.errors.RuleSyntaxError:
        return graph.errors.RuleSyntaxError([graph.errors.Problem(SECRET, 1, 1, SECRET, SECRET)])
    return kind(SECRET)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_class_is_mapped(kind: type[Exception]) -> None:
    assert kind in CODES, f"{kind.__module__}.{kind.__name__} has no gRPC code: add it to serving.status.CODES"


def test_table_holds_no_class_that_is_gone() -> None:
    assert set(CODES) == set(ALL)


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), RuntimeError("secret"), OSError("secret")])
def test_unknown_error_leaves_as_fixed_text(error: Exception) -> None:
    assert status_of(error) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_only_errors_written_for_clients_show_their_text_where_the_fault_is_ours(kind: type[Exception]) -> None:
    code, text = status_of(instance(kind))
    assert code is CODES[kind]
    ours = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
    if ours and kind not in SHOWN:
        assert SECRET not in text
        assert text


def test_store_outage_tells_no_path() -> None:
    code, text = status_of(features.errors.StoreUnavailable(f"the event log {SECRET} cannot be used"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "secret" not in text
    assert "try again" in text


def test_subclass_of_a_mapped_error_takes_its_code() -> None:
    class Colder(features.errors.StoreUnavailable):
        pass

    assert status_of(Colder("x"))[0] is grpc.StatusCode.UNAVAILABLE


def test_subclass_of_the_base_tells_nothing() -> None:
    class Unforeseen(ServingError):
        pass

    assert status_of(Unforeseen(SECRET)) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("k is 0"), grpc.StatusCode.INVALID_ARGUMENT),
        (Unauthenticated("no key"), grpc.StatusCode.UNAUTHENTICATED),
        (DeadlineExceeded("too late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (NotAsserted("retract the other"), grpc.StatusCode.FAILED_PRECONDITION),
        (NotReady("train first"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_error_written_for_clients_keeps_its_remedy(error: Exception, code: grpc.StatusCode) -> None:
    assert status_of(error) == (code, str(error))
