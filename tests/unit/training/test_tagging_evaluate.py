"""The evaluation of tags on a slice of The Complete Journey: nothing leaks, the promise holds, the report is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from features.workspace import Workspace
from models.certify import CertifyConfig, certify
from models.ports import FloatMatrix
from training.tagging import evaluate as evaluation
from training.tagging import report, tagger
from training.tagging.datasets import TagData, complete_journey
from training.tagging.evaluate import evaluate, split
from training.tagging.evidence import evidence, held_out_signals
from training.tagging.learners import fit_scorers
from training.tagging.summary import SYSTEM, WITH_GRAPH

GROUPS = 150
FOLDS = 3
"""Fewer than in the evaluation, for speed."""


class LetterEmbedder:
    """Counts of three-letter pieces, hashed: alike for alike words, without a model."""

    model_id = "letters"
    dimension = 64

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for at in range(len(text) - 2):
                rows[row, sum(ord(letter) * 31**place for place, letter in enumerate(text[at : at + 3])) % 64] += 1.0
        return np.asarray(rows / np.maximum(1e-9, np.linalg.norm(rows, axis=1, keepdims=True)), np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TagData:
    """The product types of the fifteen commonest categories, at most GROUPS of them."""
    from training.datasets.ingest import ingest_complete_journey

    workspace = Workspace(tmp_path_factory.mktemp("tagging") / "workspace")
    ingest_complete_journey(workspace, households=60)
    whole = complete_journey(workspace, LetterEmbedder())
    often = np.argsort(-np.bincount(whole.gold, minlength=len(whole.labels)), kind="stable")[:15]
    return sliced(whole, np.flatnonzero(np.isin(whole.gold, often))[:GROUPS])


def sliced(data: TagData, rows: np.ndarray) -> TagData:
    return replace(
        data,
        groups=tuple(data.groups[row] for row in rows),
        texts=tuple(data.texts[row] for row in rows),
        counts=data.counts[rows],
        views={name: view[rows] for name, view in data.views.items()},
        names={name: alike[rows] for name, alike in data.names.items()},
        facts=data.facts[rows],
    )


def one(data: TagData, graph: FloatMatrix | None = None) -> tagger.Fitted:
    return tagger.fit(data, *split(len(data.groups), 1), 1, {"it": graph}, FOLDS)["it"]


@pytest.fixture(scope="module")
def fitted(data: TagData) -> tagger.Fitted:
    return one(data)


def test_split_holds_out_a_fifth_and_is_the_same_every_time() -> None:
    train, test = split(1_000, 20)
    assert len(test) == 200
    assert not np.intersect1d(train, test).size
    assert np.array_equal(split(1_000, 20)[1], test)
    assert not np.array_equal(split(1_000, 21)[1], test)


def test_development_and_reported_seeds_are_apart() -> None:
    assert not set(evaluation.DEVELOPMENT_SEEDS) & set(evaluation.SEEDS)


def test_tags_of_a_fold_do_not_change_with_its_own_gold(data: TagData, fitted: tagger.Fitted) -> None:
    """The heart of the certificate: whatever the gold of a fold says, its tags and what speaks for them stay."""
    train, _ = split(len(data.groups), 1)
    fold = np.random.default_rng(1).permutation(len(train)) % FOLDS
    held = fold == 2
    counts = data.counts.copy()
    counts[train[held]] = np.roll(counts[train[held]], 5, axis=1)
    other = one(replace(data, counts=counts))
    assert np.array_equal(other.held_out.label[held], fitted.held_out.label[held])
    same = np.delete(np.arange(fitted.held_out.told.shape[1]), -1)
    np.testing.assert_allclose(other.held_out.told[held][:, same], fitted.held_out.told[held][:, same], atol=1e-3)
    assert not np.array_equal(other.test.label, fitted.test.label)


def test_tags_of_test_groups_do_not_change_with_their_gold(data: TagData, fitted: tagger.Fitted) -> None:
    _, test = split(len(data.groups), 1)
    counts = data.counts.copy()
    counts[test] = np.roll(counts[test], 7, axis=1)
    other = one(replace(data, counts=counts))
    assert np.array_equal(other.test.label, fitted.test.label)
    np.testing.assert_allclose(other.test.confidence, fitted.test.confidence, atol=1e-6)


def test_guardrail_beats_the_nearest_neighbour(data: TagData, fitted: tagger.Fitted) -> None:
    """On every group held out once, by the sign test of those on which the two differ."""
    train, test = split(len(data.groups), 1)
    label = np.empty(len(data.groups), np.int64)
    label[train], label[test] = fitted.held_out.label, fitted.test.label
    alike = data.kernels["meaning"].copy()
    np.fill_diagonal(alike, -1.0)
    own, nearest = label == data.gold, data.gold[alike.argmax(axis=1)] == data.gold
    better, worse = int((own & ~nearest).sum()), int((nearest & ~own).sum())
    assert binomtest(better, better + worse, 0.5, alternative="greater").pvalue < 0.05


def test_promise_on_scored_types_is_broken_no_more_often_than_stated(data: TagData, fitted: tagger.Fitted) -> None:
    """200 resplits: gold is drawn from the scored types themselves, whose precision at every threshold is known."""
    train, _ = split(len(data.groups), 1)
    confidence, right = fitted.held_out.confidence, fitted.held_out.label == data.gold[train]
    rng = np.random.default_rng(11)
    config = CertifyConfig(precision=0.8, start=float(np.quantile(confidence, 0.6)), stop=0.05, step=0.01)
    broken = accepting = 0
    for _ in range(200):
        drawn = rng.integers(0, len(train), 2 * len(train))
        accepted = certify(confidence[drawn], right[drawn], config).accepts(confidence)
        accepting += bool(accepted.any())
        broken += bool(accepted.any()) and right[accepted].mean() < 0.8
    assert accepting > 20
    assert binomtest(broken, 200, 0.05, alternative="greater").pvalue > 0.001


def test_tag_that_the_graph_contradicts_is_never_accepted(data: TagData, fitted: tagger.Fitted) -> None:
    graph = np.full((len(data.groups), len(data.labels)), -1.0, np.float32)
    vetoed = one(data, graph)
    assert not vetoed.test.confidence.any()
    assert fitted.test.confidence.any()


def test_more_of_what_speaks_for_a_label_never_lowers_its_odds(data: TagData) -> None:
    """By every tree library, whatever the other evidence is; without the constraint both do lower them here."""
    train, _ = split(len(data.groups), 1)
    fold = np.random.default_rng(1).permutation(len(train)) % FOLDS
    graph = np.random.default_rng(2).integers(-1, 2, (len(data.groups), len(data.labels))).astype(np.float32)
    lines = evidence(data, train, held_out_signals(data, train, fold), {"graph": graph})
    right = lines.label == data.gold[train[lines.row]]
    rising = np.flatnonzero(lines.monotone)
    named = {lines.columns[at] for at in rising}
    names = {f"name {how}" for how in data.names}
    assert named == {"graph", "votes basket", *names}
    constrained, free = fit_scorers(lines.matrix, right, 1, lines.monotone), fit_scorers(lines.matrix, right, 1)
    rows = lines.matrix[np.random.default_rng(3).choice(len(lines.matrix), 200)]
    for judge, unbound in zip(constrained[:2], free[:2]):
        falls = 0
        for at in rising:
            values = np.unique(np.quantile(lines.matrix[:, at], np.linspace(0, 1, 12)))
            asked = np.repeat(rows[None], len(values), axis=0)
            asked[:, :, at] = values[:, None]
            odds, before = (
                scorer(asked.reshape(-1, rows.shape[1])).reshape(len(values), -1) for scorer in (judge, unbound)
            )
            assert (np.diff(odds, axis=0) >= 0.0).all(), lines.columns[at]
            falls += int((np.diff(before, axis=0) < 0.0).sum())
        assert falls > 0


def test_the_tagger_fits_within_the_bounds_and_averages(data: TagData, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def noting(matrix: FloatMatrix, right: Any, seed: int, monotone: Sequence[int] = (), copies: int = 1) -> Any:
        told.append((matrix.shape[1], tuple(monotone), copies))
        return fit_scorers(matrix, right, seed, monotone, copies)

    monkeypatch.setattr(tagger, "fit_scorers", noting)
    one(data)
    assert len(told) == FOLDS + 1
    bound = len(data.names) + 1  # and the votes of what is bought together
    assert [(len(bounds), sum(bounds), copies) for _, bounds, copies in told] == [
        (columns, bound, tagger.COPIES) for columns, _, _ in told
    ]


def test_copies_of_the_trees_say_the_mean_of_their_odds() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(300, 6)).astype(np.float32)
    right = matrix[:, 0] + rng.normal(size=300) > 0
    both, first, second = (fit_scorers(matrix, right, seed, copies=copies) for seed, copies in ((5, 2), (5, 1), (6, 1)))
    for together, one, other in zip(both[:2], first[:2], second[:2]):
        assert not np.allclose(one(matrix), other(matrix))
        np.testing.assert_allclose(together(matrix), (one(matrix) + other(matrix)) / 2)


def test_report_has_every_number_of_every_method(data: TagData) -> None:
    graph = np.zeros((len(data.groups), len(data.labels)), np.float32)
    result = {"datasets": {"complete-journey": evaluate(data, (9001,), graph, workers=1, folds=FOLDS)}}
    methods = result["datasets"]["complete-journey"]["methods"]
    linear = {"svm", "svm-attributes", "logistic", "logistic-attributes", "logistic+acceptor"}
    assert {SYSTEM, WITH_GRAPH, "neighbours-10", *linear} <= set(methods)
    for values in methods.values():
        assert 0.0 <= values["accuracy"] <= 1.0
        assert 0.0 <= values["ece"] <= 1.0
        assert {"coverage@0.95", "precision@0.95", "coverage@0.98", "aurc", "augrc", "brier"} <= set(values)
    page = report.html(result)
    assert page.count("<svg") == 3
    assert "http" not in page
