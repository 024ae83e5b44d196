"""A shop of which an item may have several labels beside its category: trained, loaded, asked, corrected, followed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cli.vocabulary import vocabulary_app
from features.arrivals import CatalogItem, SqliteItemLog
from features.errors import WorkspaceError
from features.gold import SET_GROUP, gold, set_gold, with_set_gold
from features.itemtags import read_published
from features.workspace import Workspace
from graph import ontology
from graph.taxonomy import with_wider
from models import labelset, release, vocabulary
from models.catalog import Catalog
from models.certify import POOLED, Bound, Certificate, CertifyConfig
from models.errors import InvalidVocabulary
from models.guardrail import GuardrailConfig
from models.meanings import Meaning
from models.policy import EVIDENCE, TagConfig
from models.ranker import RankerConfig
from models.tagging import TAG_COLUMNS, TagItem
from serving.backfill import tag_products
from serving.batch import TAGS
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.errors import BackfillFailed, InvalidRequest, NotReady
from serving.live import LiveServices
from serving.load import load_services
from serving.messages import ScoreQuery, TagClaim, Tagging, TagQuery
from serving.pipeline import review, score, tag
from serving.pipeline.verdicts import UNNAMED, consider, decide, retrieve
from serving.review.cases import Wanted
from serving.review.importing import import_tags
from serving.services import Services
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.train import train

NAMES = ("bread", "cake", "soup", "curry", "salad", "stew", "pasta", "pizza")
WHAT = ("lentil", "bean", "tofu", "beef", "pork", "cheese", "butter", "egg")
VEGAN, VEGETARIAN = {"lentil", "bean", "tofu"}, {"lentil", "bean", "tofu", "cheese", "butter", "egg"}


def labels_of(what: str, maker: str) -> list[str]:
    """What is in a dish decides its diet, who made it whether it is organic."""
    diet = [label for label, whats in (("vegan", VEGAN), ("vegetarian", VEGETARIAN)) if what in whats]
    return [*diet, *(["organic"] if maker == "Hof" else [])]


def ingested(folder: Path) -> Workspace:
    """Four hundred dishes; of every tenth nobody has said what its labels are."""
    rng = np.random.default_rng(3)
    sizes = ("small", "large", "family", "party", "single", "double")
    rows = []
    for number, (name, what, size) in enumerate((n, w, s) for n in NAMES for w in WHAT for s in sizes):
        maker = ("Hof", "Werk", "Haus")[int(rng.integers(0, 3))]
        rows.append((f"i{number}", f"{size} {what} {name}", name, maker, labels_of(what, maker)))
    items = pl.DataFrame(rows, schema=["item_id", "title", "category", "maker", "diets"], orient="row")
    unsaid = pl.Series(rng.random(len(items)) < 0.1)
    items.with_columns(diets=pl.when(~unsaid).then("diets")).write_parquet(folder / "items.parquet")
    sales = []
    for user in range(40):
        staples = rng.choice(len(items), 5, replace=False)
        for week in range(16):
            moment = datetime(2021, 3, 1, 9) + timedelta(weeks=week, hours=int(rng.integers(0, 60)))
            for item in {*staples[rng.random(5) < 0.8].tolist(), int(rng.integers(0, len(items)))}:
                sales.append((f"u{user}", f"i{item}", moment.isoformat()))
    pl.DataFrame(sales, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "sales.csv")
    workspace = Workspace(folder / "workspace")
    ingest_files(folder / "items.parquet", folder / "sales.csv", None, workspace, label_column="category")
    return workspace


def config(several: dict[str, str]) -> TrainConfig:
    return TrainConfig(
        llm=None,
        search=False,
        ranker=RankerConfig(trees=10),
        tags=TagConfig(trees=60),
        cold=GuardrailConfig(trees=10),
        several=several,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("dishes")
    (folder / "diets.csv").write_text(
        "id,name,parents,definition\nvegan,vegan,vegetarian,nothing from animals\nvegetarian,,,\norganic,,,\n"
    )
    made = ingested(folder)
    train(made, config({"diets": str(folder / "diets.csv")}), None)
    return made


@pytest.fixture(scope="module")
def services(workspace: Workspace) -> Services:
    return load_services(workspace, ServeConfig(llm=None))


@pytest.fixture(scope="module")
def accepting(services: Services) -> Services:
    """With certificates that accept from one half on."""
    half = Certificate(CertifyConfig(), {POOLED: Bound(0.5, 100, 100, 0, 0.97)})
    diets = services.sets["diets"]
    policy = replace(diets.policy, certificates=dict.fromkeys(EVIDENCE, half))
    return replace(services, sets={"diets": replace(diets, policy=policy)})


async def ask(services: Services, title: str, vocabulary: str = "diets", **attributes: str) -> Tagging:
    query = TagQuery("", 60_000, "dish", TagItem(title, "", attributes), 5, vocabulary=vocabulary)
    return await tag(services, query, RequestClock(60_000))


def verdicts(answer: Tagging) -> dict[str, str]:
    return {each.tag: each.verdict for each in answer.tags}


async def test_an_item_gets_all_labels_that_are_right(accepting: Services) -> None:
    """New dishes of known contents: what is in them decides, and who makes them."""
    right = wrong = missed = 0
    for what in WHAT:
        for maker in ("Hof", "Werk"):
            given = {
                name for name, verdict in verdicts(await ask(accepting, f"huge {what} pie", maker=maker)).items()
                if verdict == "accept"
            }  # fmt: skip
            wanted = set(labels_of(what, maker))
            right, wrong, missed = (
                right + len(given & wanted),
                wrong + len(given - wanted),
                missed + len(wanted - given),
            )
    assert right >= 15, (right, wrong, missed)
    assert wrong <= 2, (right, wrong, missed)


async def test_what_training_certified_is_by_group_and_the_promise_is_stated(services: Services) -> None:
    policy = services.sets["diets"].policy
    assert policy.several
    assert policy.group_of("vegan") == "labels:diets/vegan"
    tags = (await ask(services, "huge lentil pie", maker="Hof")).tags
    assert {each.tag for each in tags} == {"vegan", "vegetarian", "organic"}
    for each in tags:
        assert each.warrant is not None
        assert (each.warrant.precision, each.warrant.confidence) == (0.95, 0.95)
        assert "another tag of the item scores higher" not in each.warrant.reason
        assert "llm" not in each.sources


async def test_an_accepted_label_implies_the_wider_one_with_proof(accepting: Services) -> None:
    policy = accepting.sets["diets"].policy
    vegan_only = Certificate(
        CertifyConfig(), {"labels:diets/vegan": Bound(0.5, 100, 100, 0, 0.97), POOLED: Bound(1.0, 100, 100, 0, 0.97)}
    )
    policy = replace(policy, certificates=dict.fromkeys(EVIDENCE, vegan_only))
    strict = replace(accepting, sets={"diets": replace(accepting.sets["diets"], policy=policy)})
    tags = {each.tag: each for each in (await ask(strict, "huge lentil pie", maker="Werk")).tags}
    assert (tags["vegan"].verdict, tags["vegan"].decided_by) == ("accept", "guardrail")
    assert (tags["vegetarian"].verdict, tags["vegetarian"].decided_by) == ("accept", "graph")
    assert tags["vegetarian"].facts


async def test_a_fact_forbids_a_diet_whatever_is_certified(accepting: Services) -> None:
    """What the words may mean sends the label to people, what the category is made of rejects it."""
    surely = replace(
        accepting.sets["diets"].policy,
        certificates=dict.fromkeys(EVIDENCE, Certificate(CertifyConfig(), {POOLED: Bound(0.0, 99, 99, 0, 0.97)})),
        reject_below=0.0,
    )
    knowing = ontology.load("grocery")
    services = replace(accepting, graph=knowing, sets={"diets": replace(accepting.sets["diets"], policy=surely)})
    said = {each.tag: each for each in (await ask(services, "huge lentil pie with beef", maker="Hof")).tags}
    assert (said["vegan"].verdict, said["vegan"].decided_by) == ("review", "graph")
    assert said["vegan"].facts
    assert said["organic"].verdict == "accept"
    known = {each.tag: each for each in (await ask(services, "huge lentil pie", category="BEEF")).tags}
    assert (known["vegan"].verdict, known["vegan"].decided_by) == ("reject", "graph")
    assert "what vegan forbids" in "\n".join(known["vegan"].facts[0].lines())
    assert known["organic"].verdict == "accept"


async def test_what_the_stated_category_means_is_certified_where_it_is_stated(accepting: Services) -> None:
    """The words alone do not know it: nothing of it may speak in what their certificate is about."""
    knowing = replace(accepting, graph=ontology.load("grocery"))
    tagger = knowing.sets["diets"]
    item = TagItem("huge lentil pie", "", {"category": "BEEF"})
    found = await retrieve(knowing, tagger, item)
    stated = consider(knowing, tagger, UNNAMED, found, None, "index")
    assert stated.evidence == "new words"
    assert "vegan" in stated.judged.conflicts
    agreement, vegan = TAG_COLUMNS.index("graph_agreement"), stated.names.index("vegan")
    assert stated.matrix[vegan, agreement] == -1
    assert stated.certified[vegan, agreement] != -1


async def test_nothing_but_labels_of_the_set_follows_from_one(accepting: Services) -> None:
    """An ontology knows what beef is, but "meat" is no dietary label, and no set says what a category is."""
    knowing = replace(
        accepting, graph=with_wider(ontology.load("grocery"), [("organic", "MEAT"), ("soup", "vegan")], "x")
    )
    tags = (await ask(knowing, "huge lentil salad", category="BEEF", maker="Hof")).tags
    assert {each.tag for each in tags} <= {"vegan", "vegetarian", "organic"}
    own = knowing.policy
    assert own is not None
    half = Certificate(CertifyConfig(), {POOLED: Bound(0.3, 100, 100, 0, 0.97)})
    sure = replace(knowing, policy=replace(own, certificates=dict.fromkeys(EVIDENCE, half)))
    told = replace(
        sure.sets["diets"],
        catalog=replace(sure.sets["diets"].catalog, meanings={"x": Meaning("x", parents=("vegan",))}),
    )
    soup = await ask(replace(sure, sets={"diets": told}), "large beef soup", "")
    assert verdicts(soup)["soup"] == "accept"
    assert "vegan" not in verdicts(soup)
    assert "vegan" in verdicts(await ask(replace(sure, sets={}), "large beef soup", ""))


async def test_what_an_audit_switched_off_does_not_follow_either(accepting: Services) -> None:
    tagger = accepting.sets["diets"]
    switched = replace(tagger.policy, review_only="labels:diets/vegetarian".__eq__)
    services = replace(accepting, sets={"diets": replace(tagger, policy=switched)})
    tags = {each.tag: each.verdict for each in (await ask(services, "huge lentil pie", maker="Werk")).tags}
    assert (tags["vegan"], tags["vegetarian"]) == ("accept", "review")


async def test_claim_that_retrieval_did_not_propose_is_not_accepted(accepting: Services) -> None:
    tagger = accepting.sets["diets"]
    item = TagItem("huge lentil pie", "", {"maker": "Hof"})
    found = await retrieve(accepting, tagger, item)
    code = tagger.catalog.labels.index("vegan")
    fewer = replace(found, proposed=tuple(label for label in found.proposed if label != code))
    seen = consider(accepting, tagger, UNNAMED, fewer, None, "claim", (code,))
    one = np.ones(len(seen.labels))
    by_name = dict(zip(seen.names, decide(tagger.policy, seen, one, one)))
    assert by_name["vegan"].verdict == "review"
    assert {decision.verdict for name, decision in by_name.items() if name != "vegan"} == {"accept"}


@pytest.mark.parametrize("most", [1, 2, 3, 5])
async def test_every_accepted_label_is_shown_once_however_few_are_asked_for(accepting: Services, most: int) -> None:
    query = TagQuery("", 60_000, "dish", TagItem("huge lentil pie", "", {"maker": "Hof"}), most, vocabulary="diets")
    everything = Certificate(CertifyConfig(), {POOLED: Bound(0.0, 99, 99, 0, 0.97)})
    policy = replace(accepting.sets["diets"].policy, certificates=dict.fromkeys(EVIDENCE, everything))
    services = replace(accepting, sets={"diets": replace(accepting.sets["diets"], policy=policy)})
    tags = (await tag(services, query, RequestClock(60_000))).tags
    assert sorted(each.tag for each in tags) == ["organic", "vegan", "vegetarian"]
    assert {each.verdict for each in tags} == {"accept"}


async def test_the_catalog_s_own_labels_are_as_before_and_other_names_are_refused(services: Services) -> None:
    own = await ask(services, "huge lentil soup", "")
    assert own.tags[0].tag == "soup"
    with pytest.raises(InvalidRequest, match="vocabulary is 'diet', which this release has not; there are 'diets'"):
        await ask(services, "huge lentil soup", "diet")
    unlearned = replace(services, sets={}, unlearned=frozenset({"diets"}))
    with pytest.raises(NotReady, match="too few items are labelled"):
        await ask(unlearned, "huge lentil soup")


async def test_score_judges_claims_of_both_vocabularies(accepting: Services) -> None:
    item = TagItem("huge lentil pie", "", {"maker": "Hof"})
    claims = [TagClaim("", item, name, -0.1, "diets") for name in ("vegan", "vegetarian", "pie")]
    answer = await score(
        accepting, ScoreQuery("", 60_000, (*claims, TagClaim("", item, "soup", None))), RequestClock(60_000)
    )
    assert [each.verdict for each in answer.judgements[:2]] == ["accept", "accept"]
    assert (answer.judgements[2].verdict, answer.judgements[2].decided_by) == ("reject", "taxonomy")
    assert answer.judgements[3].decided_by == "guardrail"


async def test_people_correct_a_label_and_the_next_training_learns_it(services: Services, workspace: Workspace) -> None:
    desk = services.review
    assert desk is not None
    everything = replace(services.sets["diets"].policy, reject_below=0.0, certificates=dict.fromkeys(EVIDENCE, _none()))
    asked = replace(services, sets={"diets": replace(services.sets["diets"], policy=everything)})
    query = TagQuery("", 60_000, "i0", TagItem("small lentil bread", "", {"maker": "Hof"}), 5, vocabulary="diets")
    clock = RequestClock(60_000)
    await review.put_up(asked, query, await tag(asked, query, clock), clock)
    page = await review.list_cases(asked, review.CasesQuery("", Wanted(), 50))
    cases = {case.proposal.tag: case for case in page.cases}
    assert set(cases) == {"diets/vegan", "diets/vegetarian", "diets/organic"}
    assert cases["diets/vegan"].proposal.group == f"{SET_GROUP}diets/vegan"
    assert labelset.set_of(cases["diets/vegan"].proposal.group) == "diets"
    with pytest.raises(InvalidRequest, match="is no label of 'diets' as SET/LABEL; did you mean 'vegetarian'"):
        await review.resolve(
            asked, review.ResolveQuery("", cases["diets/vegan"].id, "anna", "correct", "vegetarain", "", False)
        )
    await review.resolve(asked, review.ResolveQuery("", cases["diets/vegan"].id, "anna", "reject", "", "honey", False))
    await review.resolve(asked, review.ResolveQuery("", cases["diets/organic"].id, "anna", "accept", "", "", False))
    assert not len(gold(workspace))  # none of these words is about a category
    told = set_gold(workspace, labelset.prefix_of("diets"))
    assert sorted(told.select("label", "right").rows()) == [("organic", True), ("vegan", False)]
    items = pl.DataFrame({"item_id": ["i0", "i1"], "diets": [["vegan", "vegetarian"], None]})
    corrected = with_set_gold(items, told, "diets")
    assert [set(each) if each is not None else None for each in corrected["diets"].to_list()] == [
        {"vegetarian", "organic"},
        None,
    ]


def _none() -> Certificate:
    return Certificate(CertifyConfig(), {POOLED: Bound(1.0, 100, 100, 0, 0.97)})


async def test_an_arriving_item_speaks_for_others_at_once(services: Services, tmp_path: Path) -> None:
    live = LiveServices(services, SqliteItemLog(tmp_path / "arrivals.db"))
    title = "tiny seitan wrap"
    before = services.sets["diets"]
    live.upsert([CatalogItem("n1", title, "", {"category": "soup", "maker": "Hof", "diets": "vegan, organic"})])
    after = live.services.sets["diets"]
    row = live.services.table.row_of("n1")
    named = {after.catalog.labels[label] for label in after.catalog.labels_of(row)}
    assert named == {"vegan", "vegetarian", "organic"}  # who is vegan is vegetarian, says the vocabulary
    assert before.catalog.several is not None
    assert len(before.catalog.several) == row
    text = after.catalog.number_of(title)
    assert text is not None
    assert {after.catalog.labels[label] for label in after.counts.of_text(text)[0].tolist()} == named
    live.close()


def test_a_backfill_tags_a_file_with_a_set_and_review_takes_it(
    workspace: Workspace, services: Services, tmp_path: Path
) -> None:
    rows = {"item_id": ["a", "b"], "title": ["huge lentil pie", "huge beef pie"], "maker": ["Hof", "Werk"]}
    pl.DataFrame(rows).write_csv(tmp_path / "new.csv")
    serve = ServeConfig(llm=None)
    with pytest.raises(BackfillFailed, match="has no label set 'diet'; it has 'diets'"):
        tag_products(workspace, serve, tmp_path / "new.csv", tmp_path / "no", with_llm=False, vocabulary="diet")
    report = tag_products(workspace, serve, tmp_path / "new.csv", tmp_path / "out", with_llm=False, vocabulary="diets")
    frame = pl.read_parquet(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert dict(frame.schema) == {name: pl.Schema(TAGS)[name] for name in TAGS}
    assert frame["vocabulary"].unique().to_list() == ["diets"]
    assert report.rows == 2
    with pytest.raises(WorkspaceError, match="labels of the label set 'diets'"):
        read_published(tmp_path / "out")
    imported = import_tags(services, [tmp_path / "out"], tmp_path / "new.csv")
    waiting = frame.filter(pl.col("verdict") == "review")
    assert imported.review == len(waiting)


def test_release_carries_the_set_and_its_figures(workspace: Workspace) -> None:
    current, folder = release.read(workspace.releases)
    figures = current.metrics["sets"]["diets"]
    assert figures["accuracy of held-out types, new words"] > 0.7
    names = json.loads((folder / "sets" / "0" / "labels" / "names.json").read_text())
    assert names["labels"] == ["organic", "vegan", "vegetarian"]


@pytest.mark.parametrize(
    ("several", "message"),
    [
        ({"maker": ""}, "'maker', which is no list column of this catalog; it has diets"),
        ({"nothing": ""}, "'nothing', which is no list column"),
    ],
)
def test_settings_that_name_no_list_column_are_refused(
    several: dict[str, str], message: str, workspace: Workspace
) -> None:
    with pytest.raises(InvalidVocabulary, match=message):
        train(workspace, config(several), None)


def test_labels_of_the_column_are_a_vocabulary_to_fill_in(workspace: Workspace, tmp_path: Path) -> None:
    out, place = tmp_path / "diets.json", ["-w", str(workspace.root)]
    done = CliRunner().invoke(vocabulary_app, ["import", "catalog", "--column", "diets", "-o", str(out), *place])
    assert done.exit_code == 0, done.output
    made = vocabulary.read(out)
    assert made.several
    assert [label.id for label in made.entries] == ["organic", "vegan", "vegetarian"]
    assert all(label.examples for label in made.entries)
    other = CliRunner().invoke(vocabulary_app, ["import", "catalog", "--column", "diet", "-o", str(out), *place])
    assert other.exit_code != 0
    assert "has no column 'diet'; it has item_id, title" in str(other.exception)


def test_set_is_saved_and_loaded_whole(services: Services, tmp_path: Path) -> None:
    own = services.sets["diets"].catalog
    labelset.save(own, tmp_path / "labels", {})
    again = labelset.load(tmp_path / "labels", services.catalog)
    assert isinstance(again, Catalog)
    assert (again.labels, again.source, dict(again.values)) == (own.labels, own.source, dict(own.values))
    assert again.several is not None
    assert own.several is not None
    np.testing.assert_array_equal(again.several.labels, own.several.labels)
    np.testing.assert_array_equal(again.several.stated, own.several.stated)
    assert {**again.meanings} == {**own.meanings}
