"""The guardrail: honest probabilities, groups kept apart, constraints kept, verdicts where they were promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import artifacts, guardrail
from models.errors import ArtifactMismatch
from models.guardrail import MODELS, Guardrail, GuardrailConfig, fit
from models.ports import FloatMatrix, TreeModel

COLUMNS = ("votes", "agreement", "noise")
CONFIG = GuardrailConfig(trees=30, depth=3, threads=2)


def proposals(n: int, seed: int) -> tuple[FloatMatrix, npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Evidence, the true probability that the proposal is right, and whether it is."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, len(COLUMNS))).astype(np.float32)
    truth = 1 / (1 + np.exp(-(2.0 * matrix[:, 0].astype(np.float64) + matrix[:, 1] - 0.5)))
    return matrix, truth, rng.random(n) < truth


def train(n: int = 4_000, seed: int = 1, config: GuardrailConfig = CONFIG) -> Guardrail:
    matrix, _, right = proposals(n, seed)
    return fit(config, COLUMNS, matrix, right, np.arange(n) // 4, {"data_hash": "d"}, {"votes": 1})


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> Guardrail:
    """One of each library: what is promised is so for all."""
    return train(config=CONFIG.model_copy(update={"model": request.param}))


def test_probabilities_are_calibrated_within_their_binomial_noise(trained: Guardrail) -> None:
    """On fresh proposals the ECE is what a perfectly calibrated guardrail would show, not what a tolerance allows.

    The reference draws outcomes from the stated probabilities themselves. Calibration was learned from 4,000
    proposals, so 4,000 are judged.
    """
    matrix, _, right = proposals(4_000, 2)
    stated = trained.predict(matrix)
    rng = np.random.default_rng(3)
    noise = [guardrail._metrics(stated, rng.random(len(stated)) < stated, 0.5)["ece"] for _ in range(300)]
    # Both the map and the judges are samples of one size: their variances add.
    assert guardrail._metrics(stated, right, 0.5)["ece"] < np.sqrt(2) * np.quantile(noise, 0.999)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_calibration_of_known_probabilities_is_not_pulled_to_a_half(rate: float) -> None:
    """Margins that say nothing: the map must answer the base rate within its binomial noise."""
    rng = np.random.default_rng(7)
    n = 4_000
    right = rng.random(n) < rate
    margin = rng.normal(size=n)
    x, y = guardrail._isotonic(margin, right)
    mean = float(np.interp(margin, x, y).mean())
    assert abs(mean - right.mean()) < 3.3 * np.sqrt(rate * (1 - rate) / n)


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=300))
def test_the_calibration_never_falls_and_never_claims_certainty(pairs: list[tuple[float, bool]]) -> None:
    margin, right = np.array([m for m, _ in pairs]), np.array([r for _, r in pairs])
    x, y = guardrail._isotonic(margin, right)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert ((y > 0) & (y < 1)).all()
    probability = np.interp(np.linspace(-9, 9, 500), x, y)
    assert (np.diff(probability) >= 0).all()


def test_a_group_is_never_on_both_sides() -> None:
    """Evidence names the group and labels are a coin per group: whoever saw a group knows its label.

    Held out, nothing is to be known: the AUC is that of guessing, within four standard errors over groups.
    """
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(200), 10)
    coin = rng.random(200) < 0.5
    name = rng.permutation(200)[groups].astype(np.float32)
    matrix = np.stack((name, name % 7, name % 11), axis=1).astype(np.float32)
    config = GuardrailConfig(trees=60, depth=8, min_child_weight=0, threads=2)
    fitted = fit(config, COLUMNS, matrix, coin[groups], groups, {})
    seen = guardrail._metrics(fitted.predict(matrix), coin[groups], 0.5)["auc"]
    held = fitted.manifest["held_out"]["auc"]
    error = np.sqrt((200 + 1) / (12 * coin.sum() * (200 - coin.sum())))
    assert seen > 0.9
    assert held < 0.5 + 4 * error


def test_more_votes_never_lower_the_probability(trained: Guardrail) -> None:
    matrix = proposals(200, 5)[0]
    for row in matrix[:50]:
        ladder = np.repeat(row[None], 100, axis=0)
        ladder[:, 0] = np.linspace(-4, 4, 100)
        assert (np.diff(trained.predict(ladder)) >= 0).all()


def test_contributions_and_bias_add_up_to_the_margin(trained: Guardrail) -> None:
    """A library may add contributions up in float32: equal to six digits."""
    matrix = proposals(300, 6)[0]
    margin = trained._trees.by_library(matrix)
    explained = np.array([sum(c.contribution for c in row) for row in trained.explain(matrix, len(COLUMNS))])
    bias = margin - explained
    np.testing.assert_allclose(explained + bias.mean(), margin, rtol=1e-5, atol=2e-6 * np.abs(margin).max())
    assert trained.explain(matrix, 1)[0][0].feature in COLUMNS


def test_a_loaded_guardrail_answers_to_the_bit_what_the_saved_one_did(trained: Guardrail, tmp_path: Path) -> None:
    matrix = proposals(500, 7)[0]
    trained.save(tmp_path / "guardrail")
    concrete = Guardrail.load(tmp_path / "guardrail", COLUMNS)
    loaded: TreeModel = concrete
    assert loaded.predict(matrix).tobytes() == trained.predict(matrix).tobytes()
    assert concrete.accept_at == trained.accept_at
    one_by_one = np.concatenate([loaded.predict(matrix[n : n + 1]) for n in range(50)])
    assert one_by_one.tobytes() == trained.predict(matrix)[:50].tobytes()


def test_other_evidence_columns_and_damage_are_refused(trained: Guardrail, tmp_path: Path) -> None:
    trained.save(tmp_path / "guardrail")
    with pytest.raises(ArtifactMismatch, match=r"columns is \['votes', 'agreement', 'noise'\].*needs \['noise', 'vo"):
        Guardrail.load(tmp_path / "guardrail", ["noise", "votes", "agreement"])
    (model,) = (tmp_path / "guardrail").glob("model.*")
    model.write_bytes(model.read_bytes()[:-9])
    with pytest.raises(ArtifactMismatch, match=r"model\.\w+ is not the file"):
        Guardrail.load(tmp_path / "guardrail", COLUMNS)


def test_verdicts_fall_at_their_thresholds(trained: Guardrail) -> None:
    accept, reject = trained.accept_at, trained.reject_below
    assert 0 < reject < accept < 1
    below = float(np.nextafter(reject, 0)), float(np.nextafter(accept, 0))
    assert [trained.verdict(p) for p in (0.0, below[0], reject, below[1], accept, 1.0)] == [
        "reject",
        "reject",
        "review",
        "review",
        "accept",
        "accept",
    ]


def test_accepted_proposals_show_the_promised_precision_on_fresh_data(trained: Guardrail) -> None:
    """One-sided 99.9 % binomial bounds below the target; the threshold itself carries as much noise."""
    matrix, _, right = proposals(8_000, 8)
    accepted = trained.predict(matrix) >= trained.accept_at
    target, n = CONFIG.accept_precision, int(accepted.sum())
    held = trained.manifest["held_out"]
    learned_from = held["accepted_share"] * held["proposals"]
    assert held["accepted_precision"] > target - 3.1 * np.sqrt(2 * target * (1 - target) / learned_from)
    assert right[accepted].mean() > target - 3.1 * np.sqrt(target * (1 - target) * (1 / n + 1 / learned_from))


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), max_size=120),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_accept_threshold_is_the_lowest_that_holds(pairs: list[tuple[float, bool]], precision: float) -> None:
    probability, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs], bool)
    holds = [
        p
        for p in sorted(set(probability.tolist()))
        if (probability >= p).sum() >= 30 and right[probability >= p].mean() >= precision
    ]
    assert guardrail._threshold(probability, right, precision) == (holds[0] if holds else 1.01)


def test_where_no_threshold_holds_nothing_is_accepted() -> None:
    rng = np.random.default_rng(9)
    matrix = rng.normal(size=(600, 3)).astype(np.float32)
    fitted = fit(CONFIG, COLUMNS, matrix, rng.random(600) < 0.3, np.arange(600), {})
    assert fitted.accept_at > 1
    assert {fitted.verdict(p) for p in (0.5, 0.99, 1.0)} == {"review"}


def test_equal_probabilities_rank_as_guessing_does_whatever_their_order() -> None:
    right = np.array([False] * 30 + [True] * 30)
    assert guardrail._metrics(np.full(60, 0.5), right, 0.9)["auc"] == 0.5
    assert guardrail._metrics(np.full(60, 0.5), right[::-1], 0.9)["auc"] == 0.5
    assert guardrail._metrics(right.astype(float), right, 0.9)["auc"] == 1.0


def test_one_group_cannot_be_calibrated_and_is_told_so() -> None:
    matrix, _, right = proposals(50, 1)
    with pytest.raises(ValueError, match="two groups at least"):
        fit(CONFIG, COLUMNS, matrix, right, np.zeros(50, np.int64), {})


def test_the_same_seed_gives_the_same_guardrail() -> None:
    matrix = proposals(100, 10)[0]
    one, two = train(1_000), train(1_000)
    assert one.predict(matrix).tobytes() == two.predict(matrix).tobytes()
    assert one.manifest == two.manifest


def test_no_proposals_have_no_probabilities(trained: Guardrail) -> None:
    nothing = np.empty((0, len(COLUMNS)), np.float32)
    assert trained.predict(nothing).tolist() == []
    assert trained.explain(nothing, 3) == []


@pytest.mark.parametrize("model", MODELS)
def test_artifact_of_unreadable_trees_or_an_unknown_library_is_refused(model: str, tmp_path: Path) -> None:
    fitted = train(1_000, config=CONFIG.model_copy(update={"model": model}))
    assert model in fitted.manifest["versions"]
    fitted.save(tmp_path / "good")
    (name,) = (path.name for path in (tmp_path / "good").glob("model.*"))

    def damaged(where: Path) -> None:
        (where / name).write_text("no trees")

    facts = {key: value for key, value in fitted.manifest.items() if key not in ("kind", "files", "created")}
    artifacts.save(tmp_path / "damaged", guardrail.KIND, facts, damaged)
    with pytest.raises(ArtifactMismatch, match="cannot be read by this"):
        Guardrail.load(tmp_path / "damaged", COLUMNS)
    other = {**facts, "parameters": {**facts["parameters"], "model": "catboost"}}
    artifacts.save(tmp_path / "other", guardrail.KIND, other, damaged)
    with pytest.raises(ArtifactMismatch, match="'catboost'; this code knows xgboost, lightgbm"):
        Guardrail.load(tmp_path / "other", COLUMNS)


def test_lightgbms_margins_are_its_own_to_the_bit_with_missing_values_too() -> None:
    matrix = proposals(2_000, 3)[0]
    matrix[np.random.default_rng(4).random(matrix.shape) < 0.2] = np.nan
    right = np.nan_to_num(matrix[:, 0]) > 0.3
    config = CONFIG.model_copy(update={"model": "lightgbm", "depth": 6})
    trees = fit(config, COLUMNS, matrix, right, np.arange(2_000) // 4, {}, {"votes": 1})._trees
    assert trees.margin(matrix).tobytes() == trees.by_library(matrix).tobytes()
