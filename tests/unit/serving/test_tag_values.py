"""Free attributes from the vocabulary's file to the reply, the backfill's rows and people's cases, on real data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from features.gold import gold, value_gold
from features.workspace import Workspace
from models import release
from models.catalog import Catalog
from models.errors import EngineUnavailable
from models.index import load_index
from models.policy import TagConfig
from models.ports import LLMRequest
from models.tagging import TagItem
from protos.tandem.v1 import recommender_pb2, review_pb2, types_pb2
from serving.batch import TAGS, tag_rows
from serving.client import CallFailed, Client
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.load import ATTRIBUTES, load_services
from serving.messages import Header, Tagging, TagQuery
from serving.pipeline import tag
from serving.render import tags as rendered
from serving.review.cases import Wanted
from serving.review.config import ReviewConfig
from serving.review.importing import import_tags
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.asking import ask_tags, choosing, with_llm
from tests.unit.serving.replica import served
from training.values import learn_of

VOCABULARY = {
    "attributes": [
        {"name": "size", "kind": "number", "column": "package_size", "units": {"oz": ["ounce"], "lb": [], "ct": []}},
        {"name": "brand", "kind": "enum", "values": ["National", {"id": "Private", "names": ["store brand"]}]},
        {"name": "flavour", "kind": "text", "several": True, "definition": "what it tastes of"},
    ]
}
CONFIG = ServeConfig(llm=None, review=ReviewConfig(audit_rate=1.0))
TITLE, TEXT = "Store brand cheddar cheese, 8 oz", "Package: 8 ounce. With a hint of smoke."


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slice with attributes, counted as `tandem train` does."""
    root = tmp_path_factory.mktemp("values") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    (root / "attributes.json").write_text(json.dumps(VOCABULARY))
    workspace = Workspace(root)
    _, folder = release.read(workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    items = pl.read_parquet(workspace.items)
    judge, figures = learn_of(root / "attributes.json", workspace, items, catalog.text_of_row, TagConfig(), 7)
    assert set(figures) == {"size", "brand", "flavour"}
    judge.save(folder / ATTRIBUTES)
    return root


@pytest.fixture(scope="module")
def services(root: Path) -> Services:
    return load_services(Workspace(root), CONFIG)


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    with served(root, CONFIG) as (client, _):
        yield client


def saying(**said: list[str]) -> FakeLLM:
    """An LLM that says this of attributes, and picks the first of the tags."""

    def answer(request: LLMRequest) -> str:
        assert request.json_schema is not None
        wanted = request.json_schema["properties"]
        if "tags" in wanted:
            return json.dumps({"tags": wanted["tags"]["items"]["enum"][:1]})
        return json.dumps({name: said.get(name, []) for name in wanted})

    return FakeLLM(answer, logprob=-0.1)


def shown(answer: Tagging) -> list[tuple[str, str, str, str]]:
    return [(each.attribute, each.value, each.verdict, each.evidence_text) for each in answer.attributes]


async def test_values_are_certified_on_the_catalog_and_stand_in_the_words(services: Services) -> None:
    answer = await ask_tags(services, TITLE, TEXT)
    assert shown(answer) == [("size", "8 oz", "accept", "8 oz"), ("brand", "Private", "review", "Store brand")]
    size = answer.attributes[0]
    assert (size.number, size.unit, size.evidence) == (8.0, "oz", ("title", 28, 32))
    assert size.warrant.bound.lower >= 0.95
    assert answer.attributes[1].warrant.reason == "nothing like it was counted"  # the catalog has brands in its texts
    alike = await ask_tags(services, "Cheddar cheese, 8 oz", "Store brand. Package: 8 ounce.")
    assert shown(alike)[1] == ("brand", "Private", "accept", "Store brand")


async def test_release_without_attributes_answers_as_before(services: Services, trained_workspace: Workspace) -> None:
    answer = await ask_tags(replace(services, values=None), TITLE, TEXT)
    assert answer.attributes == ()
    assert answer.tags == (await ask_tags(services, TITLE, TEXT)).tags
    assert "attributes" not in {stage.name for stage in answer.header.stages}
    _, folder = release.read(trained_workspace.releases)
    assert not (folder / "attributes").exists()


async def test_llm_is_asked_for_free_text_and_people_decide(services: Services) -> None:
    llm = saying(flavour=["Smoke", "vanilla"], size=["9 oz"])
    answer = await ask_tags(with_llm(services, llm.generate), TITLE, TEXT)
    assert shown(answer)[2:] == [("flavour", "smoke", "review", "smoke")]
    assert answer.attributes[2].llm_logprob is not None
    assert answer.attributes[2].sources == ("llm",)
    assert not answer.header.degraded
    tags, _ = sorted(llm.requests, key=lambda request: "flavour" in str(request.json_schema))
    assert "flavour" not in str(tags.json_schema)
    alone = await ask_tags(with_llm(replace(services, values=None), saying().generate), TITLE, TEXT)
    assert answer.header.usage.completion_tokens > alone.header.usage.completion_tokens
    assert answer.header.usage.cost > alone.header.usage.cost


async def test_llm_that_fails_on_attributes_alone_is_said_to(services: Services) -> None:
    def answer(request: LLMRequest) -> str | Exception:
        if "flavour" in str(request.json_schema):
            return EngineUnavailable("gone")
        return choosing(lambda offered: offered[:1])(request)

    found = await ask_tags(with_llm(services, FakeLLM(answer).generate), TITLE, TEXT)
    assert [part.stage for part in found.header.degraded] == ["llm"]
    assert found.header.degraded[0].cause.startswith("attributes: ")
    assert shown(found)[0][2] == "accept"


async def test_llm_that_is_down_is_said_to_once(services: Services) -> None:
    found = await ask_tags(with_llm(services, FakeLLM(lambda _: EngineUnavailable("gone")).generate), TITLE, TEXT)
    assert [part.stage for part in found.header.degraded] == ["llm"]
    assert len(found.attributes) == 2


@pytest.mark.parametrize(
    "title", ["8 oz" * 2_000, "a\u0130\ufb03 8 oz\u00df", "\U0001f956 8 oz", "oz " * 3_000, "1/0 oz"]
)
async def test_strange_titles_have_values_of_their_words_only(services: Services, title: str) -> None:
    answer = await ask_tags(services, title[:4_000])
    for value in answer.attributes:
        _, start, end = value.evidence
        assert title[start:end] == value.evidence_text


def test_reply_and_its_table_show_values(client: Client) -> None:
    item = types_pb2.Item(title="Cheddar, 8 oz", text="Private brand. Package: 8 oz.")
    reply = client.tag(recommender_pb2.TagRequest(item=item))
    size, brand = reply.attributes
    assert (size.attribute, size.value, size.number, size.unit) == ("size", "8 oz", 8.0, "oz")
    assert (size.verdict, size.certificate.reason) == (types_pb2.VERDICT_ACCEPT, "")
    assert (size.evidence.field, size.evidence.text) == ("title", "8 oz")
    assert not brand.HasField("number")
    assert not brand.HasField("llm_logprob")
    assert rendered(reply) is not None


def test_undecided_values_are_cases_and_words_on_them_are_no_labels(client: Client, root: Path) -> None:
    item = types_pb2.Item(item_id="cheese-1", title=TITLE, text=TEXT)
    reply = client.tag(recommender_pb2.TagRequest(item=item))
    cases = {case.tag: case for case in client.cases(review_pb2.CaseFilter(item_id="cheese-1"))}
    brand, size = cases["brand=Private"], cases["size=8 oz"]
    assert (brand.kind, brand.group) == (review_pb2.CASE_KIND_REVIEW, "attribute:brand")
    assert (size.kind, size.group, size.promised) == (review_pb2.CASE_KIND_AUDIT, "attribute:size", 0.95)
    assert brand.evidence.text == "Store brand"
    assert brand.release == reply.release
    resolve = review_pb2.ResolveRequest(case_id=size.case_id, person="anna", saying=review_pb2.SAYING_CORRECT)
    for wrong, remedy in (
        ("CHEESES", "is no value"),
        ("size=9 Ounce", "say size=9 oz"),
        ("size=8 oz", "accept the case instead"),
        ("brand=National", "is no value"),
        ("size=", "is no value"),
    ):
        resolve.correction = wrong
        with pytest.raises(CallFailed, match=remedy):
            client.resolve(resolve)
    resolve.correction = "size=9 oz"
    client.resolve(resolve)
    client.resolve(review_pb2.ResolveRequest(case_id=brand.case_id, person="anna", saying=review_pb2.SAYING_ACCEPT))
    workspace = Workspace(root)
    assert "cheese-1" not in gold(workspace)["item_id"].to_list()
    assert value_gold(workspace, "size").select("item_id", "label", "right").rows() == [
        ("cheese-1", "8 oz", False),
        ("cheese-1", "9 oz", True),
    ]
    assert value_gold(workspace, "brand")["label"].to_list() == ["Private"]


async def test_backfills_rows_carry_values_and_become_the_same_cases(services: Services, tmp_path: Path) -> None:
    query = TagQuery("", 30_000, "cheese-2", TagItem(TITLE, TEXT), 5)
    answer = await tag(services, query, RequestClock(30_000))
    frame = pl.DataFrame(tag_rows(0, "cheese-2", answer, False), schema=dict(TAGS))
    first, *others = frame["attributes"].to_list()
    assert [(value["attribute"], value["value"], value["number"]) for value in first] == [
        ("size", "8 oz", 8.0),
        ("brand", "Private", None),
    ]
    assert first[0]["certificate"]["lower_bound"] >= 0.95
    assert others
    assert not any(others)
    frame.write_parquet(tmp_path / "part-0.parquet")
    pl.DataFrame({"item_id": ["cheese-2"], "title": [TITLE], "text": [TEXT]}).write_csv(tmp_path / "items.csv")
    imported = import_tags(services, [tmp_path / "part-0.parquet"], tmp_path / "items.csv")
    assert services.review is not None
    cases = {
        case.proposal.tag: case.proposal for case in services.review.queue.page(Wanted(item_id="cheese-2"), 50).cases
    }
    assert imported.opened == len(cases)
    brand = cases["brand=Private"]
    assert (brand.kind, brand.group, brand.sources) == ("review", "attribute:brand", ("name",))
    assert brand.evidence is not None
    assert (brand.evidence.field, brand.evidence.text) == ("title", "Store brand")
    assert cases["size=8 oz"].kind == "audit"
    again = import_tags(services, [tmp_path / "part-0.parquet"], tmp_path / "items.csv")
    assert again.opened == 0


def test_product_without_tags_keeps_its_values() -> None:
    (row,) = tag_rows(3, "x", Tagging(Header("", "r-1"), (), True), False)
    assert row["attributes"] == []
