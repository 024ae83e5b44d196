"""A shop whose labels a vocabulary describes: trained, loaded, asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.workspace import Workspace
from graph.ports import Proof
from models.certify import POOLED, Bound, Certificate, CertifyConfig
from models.errors import InvalidVocabulary
from models.guardrail import GuardrailConfig
from models.policy import EVIDENCE, TagConfig
from models.ranker import RankerConfig
from models.tagging import TagItem
from models.vocabulary import Label, Vocabulary
from serving.config import ServeConfig
from serving.load import load_services
from serving.messages import ProposedTag, TagClaim
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.asking import ask_tags, choosing, judge, with_llm
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.train import train

KINDS = {"MILK": ("milk", "cream"), "CHEESE": ("cheddar", "gouda"), "SOAP": ("soap", "shampoo"), "TEA": ("tea", "mate")}
ADJECTIVES = ("fresh", "fine", "organic", "classic", "large", "red", "alpine", "best", "simple", "old", "mild", "dark")
SHOP = Vocabulary(
    "shelves",
    [
        Label("DAIRY"),
        Label("d-1", "Milk", ("DAIRY",), "what cows give"),
        Label("CHEESE", "Cheese", ("DAIRY",)),
        Label("oat", "Oat drinks", ("DAIRY",), "drinks made of oats instead of cow's milk", ("oat milk",)),
    ],
)


def ingested(folder: Path) -> Workspace:
    """Forty people buy from a hundred items, five of them weekly; two dozen words name what an item is."""
    rng = np.random.default_rng(6)
    titles = [
        (f"{adjective} {word}", label) for label, named in KINDS.items() for word in named for adjective in ADJECTIVES
    ]
    rows = []
    for user in range(40):
        staples = rng.choice(len(titles), 5, replace=False)
        for week in range(16):
            moment = datetime(2021, 3, 1, 9) + timedelta(weeks=week, hours=int(rng.integers(0, 60)))
            for item in {*staples[rng.random(5) < 0.8].tolist(), int(rng.integers(0, len(titles)))}:
                rows.append((f"u{user}", f"i{item}", moment.isoformat()))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(folder / "sales.csv")
    catalog = pl.DataFrame(titles, schema=["title", "category"], orient="row")
    catalog.with_columns(item_id=pl.format("i{}", pl.int_range(len(titles)))).write_csv(folder / "items.csv")
    workspace = Workspace(folder / "workspace")
    ingest_files(folder / "items.csv", folder / "sales.csv", None, workspace, label_column="category")
    return workspace


def config(labels: Path) -> TrainConfig:
    return TrainConfig(
        llm=None,
        search=False,
        ranker=RankerConfig(trees=10),
        tags=TagConfig(trees=30),
        cold=GuardrailConfig(trees=10),
        labels=labels,
    )


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """The release of the shop; its certificates let everything be accepted that may be at all."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shelves.json").write_text(SHOP.to_json())
    workspace = ingested(folder)
    train(workspace, config(folder / "shelves.json"), None)
    loaded = load_services(workspace, ServeConfig(llm=None))
    assert loaded.policy is not None
    everything = Certificate(CertifyConfig(), {POOLED: Bound(0.0, 100, 100, 0, 0.97)})
    policy = replace(loaded.policy, certificates=dict.fromkeys(EVIDENCE, everything), reject_below=0.0)
    return replace(loaded, policy=policy)


def named(tags: tuple[ProposedTag, ...], name: str) -> ProposedTag:
    (found,) = [tag for tag in tags if tag.tag == name]
    return found


def told_by(proof: Proof) -> set[str]:
    below = [told_by(premise) for premise in proof.premises]
    return set().union(*below) if below else {proof.source}


async def test_label_of_the_file_alone_is_proposed_and_people_decide(services: Services) -> None:
    assert services.policy is not None
    assert services.policy.unseen == {"DAIRY", "oat"}
    oat = named((await ask_tags(services, "Barista oat milk", max_tags=10)).tags, "oat")
    assert "name" in oat.sources
    assert oat.verdict == "review"
    assert oat.warrant is not None
    assert "no item of the catalog was oat in training" in oat.warrant.reason
    assert oat.evidence_text == "oat"


@pytest.mark.parametrize("title", ["oat", "Oat drinks", "oat milk", "Dairy", "dairy dairy", "drinks made of oats"])
async def test_label_without_gold_is_never_accepted_whatever_is_certified(services: Services, title: str) -> None:
    llm = FakeLLM(choosing(lambda offered: [name for name in offered if name in ("oat", "DAIRY")][:1]))
    for asked in (services, with_llm(services, llm.generate)):
        tags = (await ask_tags(asked, title, max_tags=20)).tags
        judged = {tag.tag: tag.verdict for tag in tags if tag.decided_by == "guardrail"}
        assert judged["oat"] == "review"
        assert judged.get("DAIRY", "review") == "review"
    claims = [TagClaim("", TagItem(title), name, None) for name in ("oat", "DAIRY")]
    scored = await judge(services, *claims)
    assert [each.verdict for each in scored.judgements] == ["review", "review"]


async def test_llm_reads_what_a_label_means_and_may_choose_it(services: Services) -> None:
    llm = FakeLLM(choosing(lambda _: ["oat"]))
    oat = named((await ask_tags(with_llm(services, llm.generate), "Barista oat milk", max_tags=10)).tags, "oat")
    (request,) = llm.requests
    assert "- oat: Oat drinks. drinks made of oats instead of cow's milk" in request.user.splitlines()
    assert "- MILK: what cows give" in request.user.splitlines()
    assert "llm" in oat.sources
    assert oat.verdict == "review"


async def test_accepted_tag_implies_its_parent_and_the_proof_names_the_vocabulary(services: Services) -> None:
    tags = (await ask_tags(services, "fresh gouda", max_tags=20)).tags
    assert named(tags, "CHEESE").verdict == "accept"
    dairy = named(tags, "DAIRY")  # a candidate by its name too: what follows stands in its place
    assert (dairy.verdict, dairy.decided_by, dairy.sources) == ("accept", "graph", ("graph",))
    (proof,) = dairy.facts
    assert {"vocabulary 'shelves'", "guardrail"} <= told_by(proof)


def test_settings_that_name_another_catalog_s_labels_stop_the_training_at_once(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(Vocabulary("other", [Label("en:shoes")]).to_json())
    workspace = ingested(tmp_path)
    with pytest.raises(InvalidVocabulary, match=r"none of its labels \('en:shoes'\).*'CHEESE', 'MILK', 'SOAP'"):
        train(workspace, config(tmp_path / "other.json"), None)
    assert not workspace.releases.exists()
