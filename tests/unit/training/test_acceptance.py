"""From held-out proposals to a certificate: what serving would put first is counted, and the promise is kept."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.stats import binom

from models.catalog import Catalog
from models.certify import POOLED
from models.policy import EVIDENCE, TagConfig, likeliest
from models.ports import Contribution, FloatMatrix, FloatVector
from training.acceptance import VIEWS, Proposals, certified, first_labels
from training.tags import Split, sample_rows

LABELS = ("a", "b", "c")
GROUPS = {"a": "one", "b": "two", "c": "two"}
CONFIG = TagConfig(own_units=300)


class Told:
    """A guardrail that finds its probability in the evidence."""

    columns = ("probability",)

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        return matrix[:, 0].astype(np.float64)

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        del top
        return [()] * len(matrix)


def proposals(items: int, seed: int, truth: float = 1.0) -> Proposals:
    """Three labels an item, seen in all views; a label is right as often as ``truth`` times its probability says."""
    rng = np.random.default_rng(seed)
    n = items * len(VIEWS) * 3
    item = np.repeat(np.arange(items), len(VIEWS) * 3)
    view = np.tile(np.repeat(np.arange(len(VIEWS)), 3), items).astype(np.int8)
    probability = rng.beta(4, 1, n)
    return Proposals(
        probability[:, None].astype(np.float32),
        rng.random(n) < truth * probability,
        item,
        item,
        view,
        np.tile(np.arange(3), items * len(VIEWS)),
        rng.random(n) < 0.1,
    )


@pytest.fixture
def catalog() -> Catalog:
    nothing = np.empty((0, 2), np.float32)
    rows = np.arange(4, dtype=np.int32)
    return Catalog(
        tuple("wxyz"), nothing, Empty(), rows, rows.astype(np.int64), np.arange(5), LABELS, nothing,
        np.array([0, 1, 2, 0], np.int32), {"brand": rows, "size": np.array([0, -1, -1, -1], np.int32)},
        {"brand": tuple("ABCD"), "size": ("1",)}, dict(zip("wxyz", range(4))), {},
    )  # fmt: skip


class Empty:
    def search(self, queries: FloatMatrix, k: int) -> tuple[np.ndarray, FloatMatrix]:
        return np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)

    def save(self, path: object) -> None:
        del path


def test_first_label_is_the_one_serving_would_accept() -> None:
    examples = proposals(40, 1)
    probability = Told().predict(examples.matrix)
    for view in EVIDENCE:
        found = first_labels(examples, probability, view, LABELS, GROUPS)
        for item in range(40):
            rows = np.flatnonzero((examples.item == item) & (examples.view == VIEWS.index(view)))
            at = likeliest(probability[rows], examples.vetoed[rows])
            assert found.score[item] == (probability[rows[at]] if at >= 0 else 0)
            assert found.right[item] == (bool(examples.right[rows[at]]) if at >= 0 else False)
            assert found.group[item] == (GROUPS[LABELS[examples.label[rows[at]]]] if at >= 0 else POOLED)


def test_large_group_has_its_own_certificate_and_small_ones_share(catalog: Catalog) -> None:
    learn, gold = proposals(900, 2, 1.2), proposals(900, 3, 1.2)
    policy, figures = certified(CONFIG, Told(), learn, Told().predict(learn.matrix), gold, catalog, GROUPS)
    for view in EVIDENCE:
        units = {name: found["units"] for name, found in figures[view]["groups"].items()}
        own = {name for name, count in units.items() if count >= CONFIG.own_units and name != POOLED}
        assert set(policy.certificates[view].bounds) == own | {POOLED}
        assert sum(units.values()) == figures[view]["units"] == 900
        accepted = sum(found["accepted"] for found in figures[view]["groups"].values())
        assert figures[view]["coverage"] == pytest.approx(accepted / 900)
    assert policy.required == ("brand",)


def test_promise_is_broken_no_more_often_than_stated(catalog: Catalog) -> None:
    """Sixty draws of gold, four certificates each, against what is right of all units there are.

    The truth lies so that where a test stops decides. Views of one draw are drawn apart; binomial bound at 99.9 %.
    """
    learn, everything = proposals(400, 1_000, 1.02), proposals(2_000, 5_000, 1.02)
    scores = {view: first_labels(everything, Told().predict(everything.matrix), view, LABELS, {}) for view in EVIDENCE}
    broken = accepting = 0
    for seed in range(60):
        gold = proposals(300, seed, 1.02)
        policy, _ = certified(CONFIG, Told(), learn, Told().predict(learn.matrix), gold, catalog, {})
        for view, found in scores.items():
            accepted = policy.certificates[view].accepts(found.score)
            truth = np.minimum(1.0, 1.02 * found.score[accepted]).mean() if accepted.any() else 1.0
            accepting += bool(accepted.any())
            broken += bool(truth < CONFIG.precision)
    assert accepting > 40, "a promise that is never made is no test"
    assert 0 < broken <= binom.ppf(0.999, 240, 1.0 - CONFIG.confidence)


def test_without_gold_nothing_is_accepted_and_the_reason_is_said(catalog: Catalog) -> None:
    learn = proposals(50, 4)
    policy, figures = certified(CONFIG, Told(), learn, Told().predict(learn.matrix), None, catalog, GROUPS)
    for view in EVIDENCE:
        _, bound = policy.certificates[view].of("one")
        assert bound.threshold == inf
        assert bound.reason == "0 gold units: 59 without an error are the least for 95%"
        assert figures[view]["coverage"] == 0


def test_held_out_units_speak_for_nothing_the_guardrail_learns_from(catalog: Catalog) -> None:
    """Whatever the fold, counts that the guardrail learns from know no label of a unit that certifies."""
    split = Split(np.arange(4), np.array([True, False, False, False]), np.array([0, 0, 1, 1]))
    for fold in (0, 1):
        labels, counts = split.counts(catalog, fold, False).of_text(0)
        assert not len(labels)
        assert not len(counts)
    labels, _ = split.counts(catalog, 1, True).of_text(0)
    assert labels.tolist() == [0]
    assert split.rows(catalog, True).tolist() == [True, False, False, False]


def test_one_row_of_each_key_is_drawn_and_no_more_than_asked() -> None:
    rng = np.random.default_rng(0)
    keys = np.array([0, 0, 1, 1, 1, 2, 3])
    chosen = np.array([True, True, True, False, True, False, True])
    rows = sample_rows(keys, chosen, 10, rng)
    assert keys[rows].tolist() == [0, 1, 3]
    assert chosen[rows].all()
    assert len(sample_rows(keys, chosen, 2, rng)) == 2
