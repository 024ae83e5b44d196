"""The Graph service over a real gRPC server in this process: asked, told, restarted, and obeyed by Recommend."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from features.workspace import Workspace
from graph.items import item_facts
from graph.ontology import load
from graph.ports import Fact
from graph.rules.question import read_question
from graph.wants import USER
from protos.tandem.v1 import graph_pb2, graph_pb2_grpc, recommender_pb2
from serving.client import CallFailed, Client
from serving.config import Limits, ServeConfig
from serving.factmessages import fact_of, proof_of
from serving.ingress import Ingress
from serving.pipeline.rules import item_view
from serving.services import Services
from tests.unit.serving.replica import served

CONFIG = ServeConfig(llm=None, limits=Limits(facts=50))


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("graph") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return copy


@pytest.fixture(scope="module")
def running(root: Path) -> Iterator[tuple[Client, Ingress]]:
    with served(root, CONFIG) as both:
        yield both


@pytest.fixture
def client(running: tuple[Client, Ingress]) -> Client:
    return running[0]


@pytest.fixture
def services(running: tuple[Client, Ingress]) -> Services:
    return running[1]._services


def fact(predicate: str, *args: str) -> graph_pb2.Fact:
    return graph_pb2.Fact(predicate=predicate, args=args)


def told(client: Client, *facts: graph_pb2.Fact, source: str = "kitchen") -> graph_pb2.AssertReply:
    return client.assert_facts([graph_pb2.Assertion(fact=each) for each in facts], source)


def holds(client: Client, each: graph_pb2.Fact) -> bool:
    return [fact_of(found) for found in client.facts(each)] == [fact_of(each)]


def stub_of(client: Client) -> Any:
    """The service without the client's paging, deadline and errors."""
    return graph_pb2_grpc.GraphStub(client.channel)  # type: ignore[no-untyped-call]


def fresh() -> str:
    return f"item-{uuid.uuid4().hex}"


def refused(code: grpc.StatusCode, message: str) -> pytest.RaisesExc[CallFailed]:
    return pytest.raises(CallFailed, match=message, check=lambda error: error.code is code)


# --- questions -------------------------------------------------------------------------------------------------------


def test_query_answers_what_the_ontology_says(client: Client) -> None:
    found = [fact_of(each) for each in client.facts(fact("category_contains", "CHEESES", "?x"))]
    assert found == load("grocery").query(Fact("category_contains", ("CHEESES", "?x")))
    assert found


def test_query_pages_give_every_fact_once_in_one_order(client: Client) -> None:
    pattern = fact("category_contains", "?", "?")
    at_once = [fact_of(each) for each in client.facts(pattern, page_size=50)]
    by_sevens = [fact_of(each) for each in client.facts(pattern, page_size=7)]
    assert by_sevens == at_once == load("grocery").query(Fact("category_contains", ("?a", "?b")))
    assert len(at_once) > 50


def test_lone_question_marks_are_variables_of_their_own_and_equal_names_are_equal(client: Client) -> None:
    both = {fact_of(each).args for each in client.facts(fact("kind_of", "?", "?"))}
    same = {fact_of(each).args for each in client.facts(fact("kind_of", "?x", "?x"))}
    assert same == {args for args in both if args[0] == args[1]}
    assert same < both


def test_query_of_an_item_answers_from_its_row_of_the_catalog(client: Client, services: Services) -> None:
    for row in range(0, len(services.table), 97):
        item = services.table.item_ids[row]
        expected = services.graph.extend(item_facts(services.graph, item, item_view(services, row)), "catalog")
        for predicate in ("contains", "may_contain", "in_category"):
            found = [fact_of(each) for each in client.facts(fact(predicate, item, "?x"))]
            assert found == expected.query(Fact(predicate, (item, "?x")))


def test_query_with_a_variable_for_the_item_goes_through_the_catalog(client: Client, services: Services) -> None:
    found = [fact_of(each).args[0] for each in client.facts(fact("contains", "?item", "alcohol"))]
    expected = []
    for row, item in enumerate(services.table.item_ids):
        graph = services.graph.extend(item_facts(services.graph, item, item_view(services, row)), "catalog")
        expected += [item] if graph.holds(Fact("contains", (item, "alcohol"))) else []
    assert found == expected
    assert found


def test_items_the_catalog_does_not_know_come_first_in_a_query_for_all(client: Client) -> None:
    item = fresh()
    told(client, fact("contains", item, "alcohol"))
    found = [fact_of(each) for each in client.facts(fact("contains", "?item", "alcohol"), page_size=1)]
    assert found[0] == Fact("contains", (item, "alcohol"))
    assert len(found) == len(set(found)) > 1
    client.retract_facts([fact("contains", item, "alcohol")])


def test_catalog_wide_query_survives_short_deadlines_by_more_pages(client: Client, services: Services) -> None:
    stub = stub_of(client)
    token, found, pages = "", [], 0
    while True:
        reply = stub.Query(
            graph_pb2.QueryRequest(pattern=fact("product", "?item"), page_size=50, page_token=token, deadline_ms=40),
            metadata=client._metadata,
        )
        found += [each.args[0] for each in reply.facts]
        token, pages = reply.next_page_token, pages + 1
        if not token:
            break
    assert found == list(services.table.item_ids)
    assert pages > len(found) / 50


def test_literals_are_answered_by_what_the_ontology_says(client: Client) -> None:
    text = "category_contains(X, P), not category_contains(X, dairy), P != meat"
    ontology = load("grocery")
    question = read_question(text, ontology.program)
    variables, at_once = client.answers(text, page_size=50)
    assert variables == ["X", "P"]
    assert [tuple(each) for each in at_once] == ontology.answers(question)
    assert client.answers(text, page_size=3)[1] == at_once
    assert len(at_once) > 50
    assert client.answers("kind_of(beef, meat), not kind_of(meat, beef)") == ([], [[]])


def test_literals_about_items_go_through_the_catalog(client: Client, services: Services) -> None:
    other = fresh()
    told(client, fact("contains", other, "alcohol"))
    text = "contains(?item, alcohol), in_category(?item, ?shelf), not contains(?item, dairy)"
    expected = []
    for row, item in enumerate(services.table.item_ids):
        graph = services.graph.extend(item_facts(services.graph, item, item_view(services, row)), "catalog")
        if graph.holds(Fact("contains", (item, "alcohol"))) and not graph.holds(Fact("contains", (item, "dairy"))):
            expected += [[item, each.args[1]] for each in graph.query(Fact("in_category", (item, "?shelf")))]
    assert expected
    assert client.answers(text) == (["item", "shelf"], expected)
    assert client.answers(text, page_size=1)[1] == expected
    # One that the catalog does not know comes first.
    assert client.answers("contains(X, alcohol)", page_size=2)[1][0] == [other]
    item = expected[0][0]
    assert client.answers(f'contains("{item}", X), not contains("{other}", X)')[1] == [
        [each.args[1]]
        for each in map(fact_of, client.facts(fact("contains", item, "?x")))
        if not holds(client, fact("contains", other, each.args[1]))
    ]
    client.retract_facts([fact("contains", other, "alcohol")])


@pytest.mark.parametrize(
    ("literals", "message"),
    [
        ("kind_of(X, dairy), kindof(X, Y)", r"line 1, column 20: predicate 'kindof' is not declared; did you mean"),
        ("contains(X, P), contains(Y, P), X != Y", r"2 items at once \(X, Y\)"),
        ("contains(_, P), kind_of(P, Q)", r"all items at once \(_\)"),
        ("kind_of(P, Q), N = count I { contains(I, P) }", r"all items at once \(I\)"),
        ("kind_of(P, Q), I = P, not contains(I, Q)", r"column"),
        ("kind_of(P, Q)," + " " * 10_000, r"at most 10000 are read"),
    ],
)
def test_literals_that_cannot_be_asked_are_refused(client: Client, literals: str, message: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, message):
        client.answers(literals)


def test_a_pattern_and_literals_at_once_are_refused_and_a_token_is_of_its_literals(client: Client) -> None:
    stub = stub_of(client)
    both = graph_pb2.QueryRequest(pattern=fact("kind_of", "?", "?"), literals="kind_of(X, Y)")
    first = stub.Query(graph_pb2.QueryRequest(literals="kind_of(X, Y)", page_size=1), metadata=client._metadata)
    assert first.next_page_token
    other = graph_pb2.QueryRequest(literals="kind_of(Y, X)", page_token=first.next_page_token)
    for request in (both, other):
        with pytest.raises(grpc.RpcError) as error:
            stub.Query(request, metadata=client._metadata)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("token", ["nonsense", "bm9uZQ==", "W10="])
def test_page_token_of_another_pattern_is_refused(client: Client, token: str) -> None:
    stub = stub_of(client)
    with pytest.raises(grpc.RpcError) as error:
        stub.Query(
            graph_pb2.QueryRequest(pattern=fact("kind_of", "?", "?"), page_token=token), metadata=client._metadata
        )
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_explain_proves_an_item_down_to_its_row(client: Client, services: Services) -> None:
    item = next(fact_of(each).args[0] for each in client.facts(fact("contains", "?item", "alcohol")))
    reply = client.explain(fact("contains", item, "alcohol"))
    row = services.table.row_of(item)
    graph = services.graph.extend(item_facts(services.graph, item, item_view(services, row)), "catalog")
    assert proof_of(reply.steps) == graph.prove(Fact("contains", (item, "alcohol")))
    places = {tuple(step.fact.args): number for number, step in enumerate(reply.steps)}
    assert len(places) <= len(reply.steps)
    assert all(premise < number for number, step in enumerate(reply.steps) for premise in step.premises)
    kinds = {step.kind for step in reply.steps}
    assert kinds == {graph_pb2.FACT_KIND_ASSERTED, graph_pb2.FACT_KIND_DERIVED}


def test_what_does_not_hold_has_no_proof(client: Client) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "does not hold"):
        client.explain(fact("kind_of", "meat", "dairy"))


# --- told ------------------------------------------------------------------------------------------------------------


def test_asserted_fact_holds_with_what_follows_and_its_proof_says_who_and_when(client: Client) -> None:
    item = fresh()
    assert told(client, fact("in_category", item, "CHEESES"), source="the kitchen").recorded == 1
    assert holds(client, fact("contains", item, "dairy"))
    steps = client.explain(fact("contains", item, "dairy")).steps
    (step,) = [step for step in steps if step.fact.predicate == "in_category"]
    assert step.kind == graph_pb2.FACT_KIND_ASSERTED
    assert step.source.startswith("the kitchen, 20")
    assert steps[-1].kind == graph_pb2.FACT_KIND_DERIVED


def test_repeated_delivery_is_harmless(client: Client) -> None:
    each = fact("in_category", fresh(), "CHEESES")
    assert (told(client, each, each).recorded, told(client, each).unchanged) == (1, 1)
    assert client.retract_facts([each, each]).retracted == 1
    again = client.retract_facts([each])
    assert (again.retracted, [fact_of(one) for one in again.unknown]) == (0, [fact_of(each)])


def test_fact_holds_until_its_last_source_takes_it_back(client: Client) -> None:
    each = fact("in_category", fresh(), "CHEESES")
    told(client, each, source="one")
    assert told(client, each, source="two").recorded == 1
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "was asserted by one, two, not by three"):
        client.retract_facts([each], "three")
    assert client.retract_facts([each], "one").retracted == 1
    assert holds(client, each)
    assert client.retract_facts([each], "two").retracted == 1
    assert not holds(client, each)


def test_retraction_takes_away_only_what_followed_from_nothing_else(client: Client) -> None:
    item = fresh()
    told(client, fact("in_category", item, "CHEESES"), fact("contains", item, "dairy"))
    client.retract_facts([fact("in_category", item, "CHEESES")])
    assert holds(client, fact("contains", item, "dairy"))
    client.retract_facts([fact("contains", item, "dairy")])
    assert not holds(client, fact("contains", item, "dairy"))


def test_derived_fact_cannot_be_retracted_and_the_remedy_is_named(client: Client) -> None:
    item = fresh()
    told(client, fact("in_category", item, "CHEESES"))
    remedy = rf'derived by rule .*; retract what it follows from: in_category\({item}, "CHEESES"\)'
    with refused(grpc.StatusCode.FAILED_PRECONDITION, remedy):
        client.retract_facts([fact("contains", item, "dairy")])


def test_facts_of_the_ontology_and_of_the_catalog_are_not_retracted(client: Client, services: Services) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "part of the release's ontology .*property.csv"):
        client.retract_facts([fact("property", "dairy")])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "what the catalog says of the item; send the item with Upsert"):
        client.retract_facts([fact("product", services.table.item_ids[0])])


def test_call_is_taken_as_a_whole_or_not_at_all(client: Client) -> None:
    item = fresh()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "did you mean 'in_category'"):
        told(client, fact("in_category", item, "CHEESES"), fact("in_categry", item, "CHEESES"))
    assert not holds(client, fact("in_category", item, "CHEESES"))
    told(client, fact("in_category", item, "CHEESES"))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "derived"):
        client.retract_facts([fact("in_category", item, "CHEESES"), fact("contains", item, "dairy")])
    assert holds(client, fact("in_category", item, "CHEESES"))


def test_prediction_keeps_its_probability_and_proves_nothing_certain(client: Client) -> None:
    item = fresh()
    prediction = graph_pb2.Assertion(fact=fact("in_category", item, "CHEESES"), probability=0.75)
    assert client.assert_facts([prediction], "a model").recorded == 1
    assert not holds(client, fact("in_category", item, "CHEESES"))
    assert not holds(client, fact("contains", item, "dairy"))
    (step,) = client.explain(fact("~in_category", item, "CHEESES")).steps
    assert (step.kind, step.probability) == (graph_pb2.FACT_KIND_PREDICTED, 0.75)
    assert step.source.startswith("a model, 20")
    surer = graph_pb2.Assertion(fact=fact("in_category", item, "CHEESES"), probability=0.875)
    assert client.assert_facts([surer], "a model").recorded == 1
    (step,) = client.explain(fact("~in_category", item, "CHEESES")).steps
    assert step.probability == 0.875
    assert client.retract_facts([fact("~in_category", item, "CHEESES")]).retracted == 1


@pytest.mark.parametrize(
    ("assertions", "source", "message"),
    [
        ([], "kitchen", "facts is empty"),
        ([graph_pb2.Assertion(fact=fact("product", "x"))] * 51, "kitchen", "51 facts; at most 50"),
        ([graph_pb2.Assertion(fact=fact("product", "x"))], " ", "source is empty; say who"),
        ([graph_pb2.Assertion(fact=fact("product"))], "kitchen", r"facts\[0\].fact has no args"),
        ([graph_pb2.Assertion(fact=fact("", "x"))], "kitchen", r"facts\[0\].fact has no predicate"),
        ([graph_pb2.Assertion(fact=fact("product", "x" * 257))], "kitchen", "257 characters; at most 256"),
        ([graph_pb2.Assertion(fact=fact("product", "x\0"))], "kitchen", "NUL"),
        ([graph_pb2.Assertion(fact=fact("product", *"abcdefghijklmnopq"))], "kitchen", "17 arguments; at most 16"),
        ([graph_pb2.Assertion(fact=fact("product", "a", "b"))], "kitchen", r"write product\(product\)"),
        ([graph_pb2.Assertion(fact=fact("product", "?x"))], "kitchen", "neither variables nor nothing"),
        ([graph_pb2.Assertion(fact=fact("contains", "x", ""))], "kitchen", "neither variables nor nothing"),
        ([graph_pb2.Assertion(fact=fact("says", USER, "vegan"))], "kitchen", "whoever has no id; give the id"),
        ([graph_pb2.Assertion(fact=fact("conflict", "x", "y"))], "kitchen", "assert what breaks it"),
        ([graph_pb2.Assertion(fact=fact("~product", "x"))], "kitchen", "prediction without a probability"),
        ([graph_pb2.Assertion(fact=fact("product", "x"), probability=1.5)], "kitchen", "number from 0 to 1"),
        ([graph_pb2.Assertion(fact=fact("product", "x"), probability=float("nan"))], "kitchen", "number from 0 to 1"),
    ],
)
def test_what_cannot_be_asserted_is_refused_with_the_remedy(
    client: Client, assertions: list[graph_pb2.Assertion], source: str, message: str
) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, message):
        client.assert_facts(assertions, source)


# --- obeyed ----------------------------------------------------------------------------------------------------------


def recommended(client: Client, **fields: object) -> list[str]:
    request = recommender_pb2.RecommendRequest(k=100, **fields)  # type: ignore[arg-type]
    return [item.item_id for item in client.recommend(request).items]


def test_what_is_asserted_of_an_item_is_obeyed_by_the_next_recommend(client: Client) -> None:
    avoid = recommender_pb2.Constraints(avoid=["alcohol"])
    item = recommended(client, constraints=avoid)[0]
    each = fact("contains", item, "alcohol")
    told(client, each)
    assert item not in recommended(client, constraints=avoid)
    client.retract_facts([each])
    assert recommended(client, constraints=avoid)[0] == item


def test_what_follows_from_an_asserted_content_is_obeyed_too(client: Client) -> None:
    avoid = recommender_pb2.Constraints(avoid=["animal_product"])
    item = recommended(client, constraints=avoid)[0]
    each = fact("contains", item, "beef")
    told(client, each)
    assert holds(client, fact("contains", item, "animal_product"))
    assert item not in recommended(client, constraints=avoid)
    client.retract_facts([each])
    assert recommended(client, constraints=avoid)[0] == item


def test_what_is_asserted_of_a_category_is_obeyed_for_all_its_items(client: Client, services: Services) -> None:
    avoid = recommender_pb2.Constraints(avoid=["alcohol"])
    before = recommended(client, constraints=avoid)
    label = services.label_of(services.table.row_of(before[0]))
    assert label is not None
    each = fact("category_may_have", label, "alcohol")
    told(client, each)
    after = recommended(client, constraints=avoid)
    assert not {services.label_of(services.table.row_of(item)) for item in after} & {label}
    client.retract_facts([each])
    assert recommended(client, constraints=avoid) == before


def test_item_that_arrives_after_something_was_asserted_of_it_is_under_it_at_once(
    client: Client, running: tuple[Client, Ingress]
) -> None:
    from serving.client import item as described

    item = fresh()
    told(client, fact("contains", item, "alcohol"))
    client.upsert_items(
        [described("Cheddar cheese block", attributes={"category": "CHEESES", "department": "GROCERY"}, item_id=item)]
    )
    services = running[1]._services
    row = services.table.row_of(item)
    assert "alcohol" in {name for name in services.properties.names if services.properties.has([row], name)[0]}  # type: ignore[arg-type]
    assert "dairy" in {name for name in services.properties.names if services.properties.has([row], name)[0]}  # type: ignore[arg-type]
    client.retract_facts([fact("contains", item, "alcohol")])


def test_numbers_that_are_item_ids_are_no_rows_of_others(client: Client, running: tuple[Client, Ingress]) -> None:
    """Catalog ids may be small numbers: what is told of item "0" must not reach the first row of a batch."""
    each = fact("contains", "0", "alcohol")
    told(client, each)
    item = recommended(client, constraints=recommender_pb2.Constraints(avoid=["alcohol"]))[0]
    told(client, fact("contains", item, "tobacco"))
    services = running[1]._services
    assert not services.properties.has([services.table.row_of(item)], "alcohol")[0]  # type: ignore[arg-type]
    client.retract_facts([each, fact("contains", item, "tobacco")])


# --- kept ------------------------------------------------------------------------------------------------------------


def test_asserted_facts_outlive_a_restart_and_reach_every_replica(trained_workspace: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(trained_workspace.root, root)
    item, other = fresh(), fresh()
    with served(root, CONFIG) as (first, _), served(root, CONFIG) as (second, replica):
        told(first, fact("in_category", item, "CHEESES"), fact("in_category", other, "CHEESES"))
        first.retract_facts([fact("in_category", other, "CHEESES")])
        assert replica._live.catch_up()
        assert holds(second, fact("contains", item, "dairy"))
        assert not holds(second, fact("in_category", other, "CHEESES"))
    with served(root, CONFIG) as (client, _):
        assert holds(client, fact("contains", item, "dairy"))
        assert not holds(client, fact("in_category", other, "CHEESES"))
        (step,) = client.explain(fact("in_category", item, "CHEESES")).steps
        assert step.source.startswith("kitchen, 20")


# --- like every other service ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Query", "Explain", "Assert", "Retract"])
def test_every_call_needs_the_key(client: Client, method: str) -> None:
    request = {
        "Query": graph_pb2.QueryRequest,
        "Explain": graph_pb2.ExplainRequest,
        "Assert": graph_pb2.AssertRequest,
        "Retract": graph_pb2.RetractRequest,
    }[method]()
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub_of(client), method)(request)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_know_the_service(client: Client) -> None:
    assert client.serving("tandem.v1.Graph")
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tandem.v1.Graph")
    (reply,) = stub.ServerReflectionInfo(iter([request]), metadata=client._metadata)
    assert any(b"tandem/v1/graph.proto" in each for each in reply.file_descriptor_response.file_descriptor_proto)
