"""Tags for kinds of products that nobody labelled: all of them, nothing else, and by no label of theirs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from features.errors import WorkspaceError
from features.workspace import Workspace
from graph import ontology
from graph.tags import judge_tags
from models import units
from models.certify import least_errorless, lower_bound
from models.policy import TagConfig
from models.text import product_view, readable, words
from serving.batch import TAGS
from tests.unit.training.test_tagging_evaluate import LetterEmbedder
from training.tagging import untagged
from training.tagging.kinds import Kinds, kinds_of_catalog
from training.tagging.untagged import Untagged, tag_untagged

CATEGORIES = 12
KINDS = 260
FOLDS = 3
"""Fewer than in use, for speed."""
CONFIG = TagConfig(precision=0.8)


@pytest.fixture(scope="module")
def place(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small catalog of a few categories; every fifth kind has lost its labels, which truth.parquet has."""
    workspace = Workspace(tmp_path_factory.mktemp("untagged") / "workspace")
    shutil.copytree(trained_workspace.root, workspace.root)
    items = pl.read_parquet(workspace.items)
    often = items.drop_nulls("category").group_by("category").len().sort("len", "category", descending=[True, False])
    items = items.filter(pl.col("category").is_in(often["category"][:CATEGORIES].implode()))
    texts = items["title"].rank("dense").to_numpy().astype(np.int64) - 1
    unit = units.unit_of_row(texts, units.kinds_of(items))
    items = items.filter(pl.Series(unit < KINDS))
    hidden = pl.Series(unit[unit < KINDS] % 5 == 0)
    items.write_parquet(workspace.root / "truth.parquet")
    items.with_columns(category=pl.when(hidden).then(None).otherwise("category")).write_parquet(workspace.items)
    return workspace


@pytest.fixture(scope="module")
def found(place: Workspace) -> Untagged:
    return tag_untagged(place, CONFIG, LetterEmbedder(), 7, folds=FOLDS)


@pytest.fixture(scope="module")
def kinds(place: Workspace) -> Kinds:
    return kinds_of_catalog(place, LetterEmbedder(), 7)


def test_attributes_may_be_called_what_a_view_is_called(place: Workspace, kinds: Kinds, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "workspace")
    shutil.copytree(place.root, other.root)
    config = other.config()
    names = {"brand": "maker", "package_size": "offer", "manufacturer": "store"}
    pl.read_parquet(other.items).rename(names).write_parquet(other.items)
    attributes = {names.get(name, name): sort for name, sort in config.item_attributes.items()}
    other.write_config(replace(config, item_attributes=attributes))
    found = kinds_of_catalog(other, LetterEmbedder(), 7).data
    assert len(found.views) == len(kinds.data.views)
    assert found.views["offer"].shape == kinds.data.views["offer"].shape


def test_offers_of_the_catalog_are_evidence_where_it_has_any(place: Workspace, kinds: Kinds, tmp_path: Path) -> None:
    assert "offer" in kinds.data.mixes["all"]
    without = Workspace(tmp_path / "workspace")
    shutil.copytree(place.root, without.root)
    without.offers.unlink()
    assert set(kinds.data.views) - set(kinds_of_catalog(without, LetterEmbedder(), 7).data.views) == {"offer"}


def test_every_item_of_an_unlabelled_kind_gets_one_tag_and_no_other_item_any(place: Workspace, found: Untagged) -> None:
    items = pl.read_parquet(place.items)
    wanted = items.filter(pl.col("category").is_null())["item_id"].to_list()
    assert len(wanted) > 100
    assert sorted(item.item_id for item in found.items) == sorted(wanted)
    assert [item.row for item in found.items] == list(range(len(wanted)))
    assert {item.tag for item in found.items} <= set(items["category"].drop_nulls().to_list())


def test_tags_are_mostly_those_that_were_hidden(place: Workspace, kinds: Kinds, found: Untagged) -> None:
    truth = dict(pl.read_parquet(place.root / "truth.parquet").select("item_id", "category").iter_rows())
    kind = dict(zip(kinds.items["item_id"].to_list(), kinds.kind.tolist()))
    one = {kind[item.item_id]: item for item in found.items}
    right = [truth[item.item_id] == item.tag for item in one.values()]
    assert len(right) == found.asked > 30
    # The commonest of twelve categories is right for fewer than a third.
    assert np.mean(right) > 0.5


def test_evidence_is_the_tags_name_or_words_of_the_nearest_kind_that_has_the_tag(kinds: Kinds, found: Untagged) -> None:
    kind = dict(zip(kinds.items["item_id"].to_list(), kinds.kind.tolist()))
    alike, by_name, by_neighbour = kinds.data.kernels["meaning"], 0, 0
    for item in found.items:
        stems, said = words(readable(item.tag)), words(item.evidence_text)
        carrying = [one for one in kinds.labelled.tolist() if kinds.data.labels[kinds.data.gold[one]] == item.tag]
        nearest = max(carrying, key=lambda one: (alike[kind[item.item_id], one], -one))
        assert bool(item.evidence) == bool(said)
        by_name += bool(said & stems)
        by_neighbour += bool(said and not said & stems)
        assert said <= stems or said <= words(kinds.data.texts[nearest])
    assert by_name
    assert by_neighbour


def test_verdicts_are_those_of_the_certificate(found: Untagged) -> None:
    bound = found.bound
    assert bound.units == found.labelled
    if bound.threshold < inf:
        assert float(lower_bound(bound.accepted, bound.wrong, CONFIG.confidence)) >= CONFIG.precision
    for item in found.items:
        if item.warrant is None:
            assert (item.verdict, item.probability) == ("reject", 0.0)
        else:
            assert (item.verdict == "accept") == (item.probability >= bound.threshold) == (not item.warrant.reason)
            assert item.verdict != "reject" or item.probability < CONFIG.reject_below
            assert item.warrant.bound == bound


def test_promise_that_gold_cannot_show_accepts_nothing_and_says_why(
    place: Workspace, found: Untagged, kinds: Kinds
) -> None:
    assert len(kinds.labelled) < least_errorless(0.99, 0.95)
    strict = tag_untagged(place, TagConfig(precision=0.99), LetterEmbedder(), 7, folds=FOLDS)
    assert strict.bound.threshold == inf
    assert strict.accepted == 0
    assert {item.verdict for item in strict.items} <= {"review", "reject"}
    assert all("nothing can be accepted" in item.warrant.reason for item in strict.items if item.warrant)
    assert [item.tag for item in strict.items] == [item.tag for item in found.items]


def test_what_the_graph_contradicts_is_rejected(
    place: Workspace, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    against = -np.ones((len(kinds.data.groups), len(kinds.data.labels)), np.float32)
    monkeypatch.setattr(untagged, "graph_view", lambda *_: against)
    vetoed = tag_untagged(place, CONFIG, LetterEmbedder(), 7, folds=FOLDS)
    assert {(item.verdict, item.warrant) for item in vetoed.items} == {("reject", None)}
    assert vetoed.accepted == 0


def test_item_whose_own_words_contradict_its_kinds_tag_is_not_accepted_with_the_others(
    place: Workspace, found: Untagged, tmp_path: Path
) -> None:
    """A kind's usual words say nothing against its tag, say BEEF; one item of it is said to be vegan."""
    graph = ontology.load("grocery")
    titles = dict(pl.read_parquet(place.items).select("item_id", "title").iter_rows())

    def contradicts(tag: str, title: str) -> bool:
        return tag in judge_tags(graph, "item", product_view(title, None, {}), (tag,), "index").conflicts

    usual = next(
        item
        for item in found.items
        if item.verdict == "accept" and contradicts(item.tag, f"{titles[item.item_id]} vegan")
    )
    # Three more of the kind, so that its usual words stay, and another that is vegan.
    other = Workspace(tmp_path / "workspace")
    shutil.copytree(place.root, other.root)
    items = pl.read_parquet(other.items)
    one = items.filter(pl.col("item_id") == usual.item_id)
    odd = one.with_columns(item_id=pl.lit("odd"), title=pl.format("{} vegan", "title"))
    copies = [one.with_columns(item_id=pl.lit(f"copy{number}")) for number in range(3)]
    pl.concat([items, *copies, odd]).write_parquet(other.items)
    again = {item.item_id: item for item in tag_untagged(other, CONFIG, LetterEmbedder(), 7, folds=FOLDS).items}
    assert {again[name].tag for name in ("odd", "copy0", "copy1", "copy2", usual.item_id)} == {usual.tag}
    assert (again["odd"].verdict, again["odd"].warrant, again["odd"].probability) == ("reject", None, 0.0)
    assert any("vegan" in line for proof in again["odd"].facts for line in proof.lines())
    assert {again[name].verdict for name in ("copy0", "copy1", "copy2", usual.item_id)} == {"accept"}


def test_group_that_the_audit_switched_goes_to_people(place: Workspace, found: Untagged) -> None:
    switched: set[str] = {item.warrant.group for item in found.items if item.verdict == "accept" and item.warrant}
    assert switched
    again = tag_untagged(place, CONFIG, LetterEmbedder(), 7, folds=FOLDS, review_only=switched.__contains__)
    assert again.accepted == 0
    for before, after in zip(found.items, again.items):
        assert (after.item_id, after.tag) == (before.item_id, before.tag)
        if before.verdict == "accept":
            assert after.verdict == "review"
            assert after.warrant is not None
            assert "switched to review" in after.warrant.reason


def test_labels_of_unlabelled_kinds_are_never_seen(place: Workspace, kinds: Kinds) -> None:
    assert not kinds.data.counts[kinds.unlabelled].any()
    assert not kinds.data.shares[kinds.unlabelled].any()
    assert set(kinds.labelled).isdisjoint(kinds.unlabelled)
    only = kinds_of_catalog(place, LetterEmbedder(), 7, asked=False)
    assert not len(only.unlabelled)
    assert len(only.labelled) == len(kinds.labelled)


def test_more_kinds_than_fit_leave_out_the_smallest_and_say_so(
    place: Workspace, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.tagging.kinds.MOST_ASKED", 10)
    monkeypatch.setattr("training.tagging.kinds.MOST_LABELLED", 120)
    some = kinds_of_catalog(place, LetterEmbedder(), 7)
    assert (len(some.labelled), len(some.unlabelled)) == (120, 10)
    assert some.left_out == len(kinds.unlabelled) - 10

    def sizes(numbers: np.ndarray, kind: np.ndarray) -> list[int]:
        return sorted(np.bincount(kind[kind >= 0])[numbers].tolist(), reverse=True)

    assert sizes(some.unlabelled, some.kind) == sizes(kinds.unlabelled, kinds.kind)[:10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items.with_columns(category=pl.lit(None, pl.String)), "has 0 labels"),
        (lambda items: items.filter(pl.col("category").is_null() | (pl.int_range(pl.len()) < 40)), "100 are the least"),
    ],
)
def test_too_little_gold_is_refused_with_the_remedy(
    place: Workspace, tmp_path: Path, change: object, message: str
) -> None:
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(place.root, copy.root)
    assert callable(change)
    change(pl.read_parquet(place.items)).write_parquet(copy.items)
    with pytest.raises(WorkspaceError, match=message):
        tag_untagged(copy, CONFIG, LetterEmbedder(), 7, folds=FOLDS)


def test_catalog_without_unlabelled_kinds_has_nothing_to_tag(place: Workspace, tmp_path: Path) -> None:
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(place.root, copy.root)
    shutil.copy(copy.root / "truth.parquet", copy.items)
    done = tag_untagged(copy, CONFIG, LetterEmbedder(), 7, folds=FOLDS)
    assert (done.items, done.asked, done.accepted, done.left_out) == ([], 0, 0, 0)


def test_command_writes_what_review_imports(
    place: Workspace, found: Untagged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.program import app

    def answer(*arguments: object, review_only: Callable[[str], bool]) -> Untagged:
        assert arguments[0] == place
        assert not review_only("a group that nobody switched")
        return found

    monkeypatch.setattr(untagged, "tag_untagged", answer)
    output = tmp_path / "results" / "tagged"
    command = ["backfill", "untagged", "--workspace", str(place.root), "--output", str(output), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["items"] == len(found.items) == report["accept"] + report["review"] + report["reject"]
    assert report["kinds"]["asked"] == found.asked
    frame = pl.read_parquet(output / "part-00000.parquet")
    assert dict(frame.schema) == {name: pl.Schema({name: kind})[name] for name, kind in TAGS.items()}
    assert frame["item_id"].to_list() == [item.item_id for item in found.items]
    assert frame["certificate"].struct.field("precision").drop_nulls().unique().to_list() == [CONFIG.precision]
    for row, item in zip(frame.iter_rows(named=True), found.items):
        if item.evidence:
            assert row["evidence_text"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["tagged"]
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "is there already" in str(again.exception)
    imported = CliRunner().invoke(
        app, ["review", "import", str(output), "--workspace", str(place.root), "--config", _no_llm(tmp_path), "--json"]
    )
    assert imported.exit_code == 0, imported.output
    assert json.loads(imported.stdout.splitlines()[-1])["tags"] == len(found.items)


def _no_llm(folder: Path) -> str:
    path = folder / "settings.toml"
    path.write_text("llm = false\n")
    return str(path)
