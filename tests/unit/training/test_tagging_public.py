"""Open Food Facts and OA-Mine as gold: what is read, what may speak, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

from features.workspace import Workspace, WorkspaceConfig
from models.errors import ArtifactMismatch
from models.ports import FloatMatrix
from tests.unit.training.oracle import Oracle
from training.tagging import claims, oamine, openfoodfacts, report, spans
from training.tagging.lexicon import Wording, lexicon
from training.tagging.llm_offered import METHODS, NONE
from training.tagging.llm_several import of_titles
from training.tagging.llm_sizes import Sample
from training.tagging.oamine import OA_MINE, AttributeData, Title
from training.tagging.openfoodfacts import LabelledProducts
from training.tagging.run import DATASETS, Setting, evaluate_tags
from training.tagging.summary import SYSTEM
from training.tagging.words import WordModel

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


class LetterEmbedder:
    """Counts of letters: alike for alike words, without a model."""

    model_id = "letters"
    dimension = 32

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        rows = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            np.add.at(rows[row], [ord(letter) % self.dimension for letter in text], 1.0)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


# --- OA-Mine ---------------------------------------------------------------------------------------------------------
def title(text: str, **gold: str) -> Title:
    return oamine.title({"input": text, "category": "Tea", "target_scores": {a: {v: 1} for a, v in gold.items()}})


def test_value_is_found_where_whole_words_are_it() -> None:
    found = title("Green Tea, greenish tea 20 oz")
    assert [found.value(*place) for place in found.places("green tea")] == ["Green Tea"]
    assert found.places("reen") == []
    assert found.value(5, 6) == "20 oz"


def test_value_that_is_not_available_is_no_gold() -> None:
    assert title("Mint Tea", Brand="n/a", Flavor=" Mint ").gold == {"Flavor": "Mint"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Titles of a grammar: brand, flavour and size, each of its own words, in one order or another."""
    where = tmp_path_factory.mktemp("oa-mine")
    rng = np.random.default_rng(5)
    brands, flavours = [f"{name} House" for name in ("Oak", "Elm", "Ash")], ["Mint", "Dark Plum", "Rose", "Lemon Zest"]
    for name, many in (("train", 80), ("test", 40)):
        rows = []
        for _ in range(many):
            brand, flavour = str(rng.choice(brands)), str(rng.choice(flavours))
            size = f"{rng.integers(1, 90)} oz"
            text = f"{brand} Tea, {flavour}, {size}" if rng.random() < 0.6 else f"{flavour} Tea by {brand} {size}"
            gold = {"Brand": {brand: 1}, "Flavor": {flavour: 1}, "Net content": {size: 1}}
            rows.append(json.dumps({"input": text, "category": "Tea", "target_scores": gold}))
        (where / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return where


def test_guardrail_reads_values_that_no_training_title_has(folder: Path) -> None:
    data = oamine.load(folder)
    vectors = LetterEmbedder().embed([one.text for one in data.titles])
    found = {one.method: one for one in spans.run(data, vectors, 1, folds=2)}
    assert set(found) == {"neighbours-10", "lookup", SYSTEM, "logistic-evidence", "words"}
    size = data.labels.index("Tea: Net content")
    own, looked_up = (found[name].claims for name in (SYSTEM, "lookup"))
    assert own.right[own.tag == size].sum() > looked_up.right[looked_up.tag == size].sum()
    for one in found.values():
        pairs = list(zip(one.claims.unit.tolist(), one.claims.tag.tolist()))
        assert len(pairs) == len(set(pairs))
    assert binomtest(int(own.right.sum()), int(own.gold.sum()), 0.5, alternative="greater").pvalue < 0.001


def made_of(*titles: Title) -> AttributeData:
    slots = tuple(sorted({(one.category, attribute) for one in titles for attribute in one.gold}))
    everything = np.arange(len(titles))
    return AttributeData(titles, slots, everything, everything[:0], everything)


def test_what_speaks_for_a_counted_title_is_what_would_if_it_were_new() -> None:
    """Else trees learn who was counted. Mint is the value of one title and stands in two others as well."""
    data = made_of(
        title("Dark Plum Tea with Mint leaves, 20 oz", Brand="Dark", Flavor="Plum", Size="20 oz"),
        title("Mint Tea by Oak", Brand="Oak", Flavor="Mint"),
        title("Oak Rose Hip Tea 20 oz", Brand="Oak", Flavor="Rose Hip", Size="20 oz"),
        title("Elm Plum Tea 16 oz", Brand="Elm", Flavor="Plum", Size="16 oz"),
        title("Mint by Elm, Lemon Zest", Brand="Elm", Flavor="Lemon Zest"),
    )
    judge = spans._Judge(data, np.empty((0, 0), np.float32), 1)
    rng = np.random.default_rng(3)
    carriers = 13
    for row, one in enumerate(data.titles):
        asked, others = data.train[[row]], np.delete(data.train, row)
        shares = [rng.dirichlet(np.ones(4), len(one.tokens)).astype(np.float32)]
        counted = judge.lines(asked, shares, lexicon(data, data.train), judge.wording(data.train), own={row})
        new = judge.lines(asked, shares, lexicon(data, others), judge.wording(others))
        assert counted.spans == new.spans
        assert counted.right.any()
        # How common an attribute is says the same of all titles of a category.
        np.testing.assert_allclose(np.delete(counted.matrix, carriers, 1), np.delete(new.matrix, carriers, 1))


def test_words_speak_for_a_value_that_no_title_has() -> None:
    wording = Wording([title("Dark Plum Tea", Flavor="Dark Plum"), title("Dark Tea 20 oz", Flavor="Dark")])
    told = wording.evidence(title("Dark Rose Tea"), (0, 1), ("Tea", "Flavor"))
    dark, rose = 2.2 / 3, 0.2
    shares = (dark, rose, (dark + rose) / 2)
    assert told == pytest.approx((*shares, *np.log([2.5 / 3, 1.5 / 3, 2.5 / 3, 2.5 / 3])))
    assert wording.standing(title("Tea so DARK"), (2, 2)) == 2
    assert wording.standing(title("Plum Dark"), (0, 1)) == 0


def test_more_titles_with_the_very_value_never_speak_against_it(folder: Path) -> None:
    data = oamine.load(folder)
    judge = spans._Judge(data, np.empty((0, 0), np.float32), 1)
    words = WordModel(data, data.train)
    shares = [words.predict(data.titles[row]) for row in data.train]
    own = set(data.train.tolist())
    lines = judge.lines(data.train, shares, lexicon(data, data.train), judge.wording(data.train), own)
    times, share = spans._OF_KNOWN
    known = lines.matrix[:, times] > 0
    assert known.any()
    assert not known.all()
    assert lines.matrix[known, share].min() > 0.0
    assert lines.matrix[known, share].max() == 1.0
    assert not lines.matrix[~known, share].any()
    rising = spans._monotone(lines.matrix.shape[1])
    assert np.flatnonzero(rising).tolist() == [times, share]


def test_dataset_is_told_in_the_shape_of_the_others(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / OA_MINE).symlink_to(folder)
    told = DATASETS[OA_MINE](Setting(Workspace(tmp_path), root, LetterEmbedder(), (1,)))
    assert told["seeds"] == [1]
    wanted = {"accuracy", "precision", "recall", "coverage@0.95", "coverage@0.98", "precision@0.95", "ece", "brier"}
    for values in told["methods"].values():
        assert wanted | {"aurc", "augrc", "latency_ms", "cost", "intervals", "certificate_test"} <= set(values)
    assert set(told["gain"][SYSTEM]) == set(told["methods"]) - {SYSTEM}
    json.dumps(told, allow_nan=False)


def test_gold_is_seen_where_a_training_title_of_the_category_has_the_value_at_all() -> None:
    train = [title("Oak Mint Tea", Brand="Oak"), title("Elm Tea", Flavor="Rose")]
    other = replace(title("Plum Jam", Flavor="Plum"), category="Jam")
    test = [title("MINT by Oak", Flavor="MINT", Brand="Oak"), title("Plum, Rose", Flavor="Plum", Brand="Rose")]
    slots = (("Tea", "Brand"), ("Tea", "Flavor"))
    titles = (*train, other, *test)
    data = AttributeData(titles, slots, np.arange(3), np.arange(3, 5), np.arange(5))
    found = oamine.slices(data)
    # In the words of one title; as the gold of a title, whatever its words and the attribute; in another category only.
    assert found["seen"][3:].tolist() == [[True, True], [True, False]]
    assert found["unseen"][3:].tolist() == [[False, False], [False, True]]
    assert not (found["seen"] & found["unseen"]).any()


def test_lookup_finds_nothing_that_no_training_title_has_and_the_guardrail_does(folder: Path) -> None:
    data = oamine.load(folder)
    vectors = LetterEmbedder().embed([one.text for one in data.titles])
    outcomes = spans.run(data, vectors, 1, folds=2)
    slices = oamine.slices(data)
    told = claims.summary(data.labels, data.clusters, outcomes, (SYSTEM,), slices=slices)
    assert sum(told["slices"].values()) == sum(len(data.titles[row].gold) for row in data.test)
    assert told["slices"]["unseen"] >= 10
    for method in ("lookup", "neighbours-10"):
        assert told["methods"][method]["recall_unseen"] == told["methods"][method]["named_unseen"] == 0.0
        assert told["methods"][method]["recall_seen"] > 0.3
    own = told["methods"][SYSTEM]
    assert own["intervals"]["recall_unseen"]["low"] > 0.0
    assert own["named_unseen"] >= own["recall_unseen"]
    # The two slices are all of the gold: their recalls, weighted, are the recall.
    weighted = sum(own[f"recall_{name}"] * many for name, many in told["slices"].items())
    assert weighted / sum(told["slices"].values()) == pytest.approx(own["recall"])
    gain = told["gain"][SYSTEM]["lookup"]["recall_unseen"]
    assert gain["mean"] == pytest.approx(own["recall_unseen"])
    assert gain["excludes_zero"]
    shown = Console(file=StringIO(), width=160)
    shown.print(report.render({"datasets": {OA_MINE: told}}))
    terminal = shown.file.getvalue()  # type: ignore[attr-defined]
    for text in (terminal, report.html({"datasets": {OA_MINE: told}})):
        assert "recall_unseen" in text
        assert "what no neighbour has cannot be looked up" in text


def test_llm_chooses_among_the_guesses_for_a_title(folder: Path, tmp_path: Path) -> None:
    """An engine that knows the flavours finds all that are offered, and no more than they."""
    flavours = ("Mint", "Dark Plum", "Rose", "Lemon Zest")
    wanted = {f"Flavor: {flavour}" for flavour in flavours}
    engine = Oracle(lambda _, choices: next((one for one in choices if one in wanted), NONE))
    data = oamine.load(folder)
    (found,) = of_titles(data, engine, tmp_path / "answers.jsonl", 1, Sample(20, 20), lambda *_: None).outcomes
    assert [one.method for one in found] == list(METHODS)
    for one in found:
        assert {data.labels[tag] for tag in one.claims.tag.tolist()} == {"Tea: Flavor"}
        assert one.claims.right.all()
        assert binomtest(len(one.claims.unit), 20, 0.5, alternative="greater").pvalue < 0.05


def test_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match=r"train\.jsonl is no file of OA-Mine"):
        oamine.load(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"input": 3}\n', encoding="utf-8")
    with pytest.raises(ArtifactMismatch, match="target_scores"):
        oamine.load(tmp_path)


def test_dataset_that_is_not_there_names_the_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.write_config(WorkspaceConfig("made", "0", "category", "generic", "data", 0))
    with pytest.raises(ArtifactMismatch, match=r"dataset 'oa-mine': there is no folder .*name the folder.*--data"):
        evaluate_tags(workspace, ["oa-mine"], folder=tmp_path / "nowhere")


# --- Open Food Facts -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LabelledProducts]:
    where = DATA / "openfoodfacts"
    if not where.is_dir():
        pytest.skip(f"{where} is not on this machine")
    workspace = Workspace(tmp_path_factory.mktemp("off"))
    return {one.vocabulary: one for one in openfoodfacts.load(workspace, where, LetterEmbedder())}


def test_vocabularies_have_gold_and_hide_what_must_be_hidden(products: dict[str, LabelledProducts]) -> None:
    assert set(products) == {"labels", "category-1", "category-2"}
    labels = products["labels"].data
    assert {"en:vegan", "en:vegetarian", "en:organic", "en:no-gluten"} <= set(labels.labels)
    assert len(labels.groups) == len(set(labels.texts))
    for one in products.values():
        assert one.data.counts.sum(axis=0).min() >= openfoodfacts.LEAST
        assert len(one.clusters) == len(one.data.groups)
    assert not products["category-1"].graph.any()


def test_narrower_label_counts_for_the_wider_one(products: dict[str, LabelledProducts]) -> None:
    labels = products["labels"].data
    vegan, vegetarian = (labels.labels.index(f"en:{name}") for name in ("vegan", "vegetarian"))
    assert (labels.counts[:, vegan] <= labels.counts[:, vegetarian]).all()
    assert labels.counts[:, vegan].any()


def test_derived_facts_never_contradict_a_vegan_label_of_these_products(products: dict[str, LabelledProducts]) -> None:
    labels = products["labels"]
    vegan = labels.data.labels.index("en:vegan")
    assert (labels.graph[:, vegan] < 0).sum() > 50
    assert not ((labels.graph[:, vegan] < 0) & (labels.data.counts[:, vegan] > 0)).any()
