"""The LightGBM ranker: exact explanations, exact files, and no start on another schema."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import ArtifactMismatch
from models.ports import FloatMatrix, TreeModel
from models.ranker import Binned, LightGBMRanker, RankerConfig, fit

COLUMNS = ("due", "count", "noise", "missing")
GROUP = 20


def data(groups: int, seed: int) -> tuple[FloatMatrix, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The most due of each group is wanted; a column of noise, and one with holes that helps a little."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(groups * GROUP, len(COLUMNS))).astype(np.float32)
    relevance = np.zeros(len(matrix), np.int32)
    for start in range(0, len(matrix), GROUP):
        relevance[start + int(np.argmax(matrix[start : start + GROUP, 0]))] = 1
    matrix[:, 3] = np.where(rng.random(len(matrix)) < 0.5, np.nan, relevance + rng.normal(size=len(matrix)))
    return matrix, relevance, np.full(groups, GROUP, np.int32)


CONFIG = RankerConfig(trees=40, min_leaf=10, threads=2)


def binned(train: int, valid: int) -> Binned:
    """The last ``valid`` of ``train + valid`` groups validate."""
    rows = np.arange((train + valid) * GROUP)
    return Binned.of(COLUMNS, data(train + valid, 1)).part(rows[: train * GROUP], rows[train * GROUP :])


def train(seen: list[float] | None = None) -> LightGBMRanker:
    progress = seen.append if seen is not None else lambda _: None
    return fit(CONFIG, binned(80, 30), {"schema_hash": "abc", "data_hash": "d"}, progress)


@pytest.fixture(scope="module")
def ranker() -> LightGBMRanker:
    return train()


def test_the_wanted_item_comes_first(ranker: LightGBMRanker) -> None:
    """Chance would put one of twenty first; half of them is beyond it by any test."""
    matrix, relevance, sizes = data(100, 3)
    scores = ranker.predict(matrix).reshape(len(sizes), GROUP)
    assert relevance.reshape(len(sizes), GROUP)[np.arange(len(sizes)), scores.argmax(axis=1)].mean() > 0.5


def test_contributions_and_bias_add_up_to_the_score(ranker: LightGBMRanker) -> None:
    """The bias is one number for all rows: what contributions leave of a score must not vary."""
    matrix = data(20, 4)[0]
    scores = ranker.predict(matrix)
    explained = np.array([sum(c.contribution for c in row) for row in ranker.explain(matrix, len(COLUMNS))])
    bias = scores - explained
    np.testing.assert_allclose(explained + bias.mean(), scores, rtol=1e-6, atol=1e-9 * np.abs(scores).max())


def test_an_explanation_names_the_largest_contributions_with_their_values(ranker: LightGBMRanker) -> None:
    matrix = data(2, 5)[0]
    for row, whole, top in zip(matrix, ranker.explain(matrix, len(COLUMNS)), ranker.explain(matrix, 2)):
        sizes = [abs(c.contribution) for c in whole]
        assert sizes == sorted(sizes, reverse=True)
        assert repr(top) == repr(whole[:2])  # NaN values are equal as text
        for contribution in whole:
            assert contribution.contribution != 0
            np.testing.assert_equal(contribution.value, float(row[COLUMNS.index(contribution.feature)]))


def test_a_loaded_ranker_scores_to_the_bit_what_the_saved_one_did(ranker: LightGBMRanker, tmp_path: Path) -> None:
    matrix = data(50, 6)[0]
    ranker.save(tmp_path / "ranker")
    loaded: TreeModel = LightGBMRanker.load(tmp_path / "ranker", "abc")
    assert loaded.columns == COLUMNS
    assert loaded.predict(matrix).tobytes() == ranker.predict(matrix).tobytes()
    LightGBMRanker.load(tmp_path / "ranker", "abc").save(tmp_path / "again")
    again = LightGBMRanker.load(tmp_path / "again", "abc")
    assert again.predict(matrix).tobytes() == ranker.predict(matrix).tobytes()
    assert again.manifest["files"] == LightGBMRanker.load(tmp_path / "ranker", "abc").manifest["files"]


@pytest.mark.parametrize("objective", ["lambdarank", "binary"])
def test_a_machine_with_other_cores_trains_the_same_files(objective: str, tmp_path: Path) -> None:
    """Enough rows for threads to share them: a release's name comes from its files."""
    found = []
    for threads in (1, 2, 3):
        config = RankerConfig.model_validate({**CONFIG.model_dump(), "objective": objective, "threads": threads})
        whole = Binned.of(COLUMNS, data(1_000, 1), threads)
        fit(config, whole, {"schema_hash": "abc"}, rounds=10).save(tmp_path / str(threads))
        loaded = LightGBMRanker.load(tmp_path / str(threads), "abc")
        found.append((loaded.manifest["files"], loaded.facts, loaded.predict(data(50, 6)[0]).tobytes()))
    assert found[0] == found[1] == found[2]


def test_a_score_does_not_depend_on_its_batch(ranker: LightGBMRanker) -> None:
    matrix = data(10, 7)[0]
    whole = ranker.predict(matrix)
    one_by_one = np.concatenate([ranker.predict(matrix[n : n + 1]) for n in range(len(matrix))])
    assert whole.tobytes() == one_by_one.tobytes()


def test_another_feature_schema_is_refused_with_both_hashes(ranker: LightGBMRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker")
    with pytest.raises(ArtifactMismatch, match=r"schema_hash is 'abc' in the manifest, this code needs 'xyz'"):
        LightGBMRanker.load(tmp_path / "ranker", "xyz")


def test_a_changed_threshold_is_found(ranker: LightGBMRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker")
    model = tmp_path / "ranker" / "model.txt"
    model.write_text(model.read_text().replace("threshold=", "threshold=1 ", 1))
    with pytest.raises(ArtifactMismatch, match=r"model\.txt is not the file its manifest names"):
        LightGBMRanker.load(tmp_path / "ranker", "abc")


def test_training_twice_gives_the_same_model_and_reports_progress(ranker: LightGBMRanker) -> None:
    seen: list[float] = []
    matrix = data(10, 8)[0]
    assert train(seen).predict(matrix).tobytes() == ranker.predict(matrix).tobytes()
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= 1


def test_the_manifest_says_how_it_was_trained(ranker: LightGBMRanker) -> None:
    assert ranker.manifest["parameters"] == CONFIG.model_dump(exclude={"threads"})
    assert 1 <= ranker.manifest["rounds"] <= CONFIG.trees
    assert ranker.manifest["data_hash"] == "d"
    assert 0 < ranker.manifest["validation_ndcg@10"] <= 1
    assert set(ranker.manifest["versions"]) == {"lightgbm", "numpy"}


def test_rounds_asked_for_are_trained_whatever_validation_says() -> None:
    """And without anything held out the manifest has no figure."""
    alone = Binned.of(COLUMNS, data(80, 1))
    longer = CONFIG.model_copy(update={"patience": 1})
    for found in (
        fit(longer, binned(80, 30), {}, rounds=25),
        fit(longer, alone, {}, rounds=25),
    ):
        assert found.manifest["rounds"] == 25
        assert found.manifest["validation_ndcg@10"] is None
    assert fit(CONFIG, alone, {}).manifest["rounds"] == CONFIG.trees


def test_a_part_trains_on_its_rows_alone() -> None:
    """Whatever else is in the bins: the same trees as where the other rows mean something else."""
    matrix, relevance, sizes = data(110, 1)
    other = relevance.copy()
    other[80 * GROUP :] = 1 - other[80 * GROUP :]
    rows = np.arange(80 * GROUP)
    one, two = (
        fit(CONFIG, Binned.of(COLUMNS, (matrix, each, sizes)).part(rows, rows), {}, rounds=10)
        for each in (relevance, other)
    )
    assert one.predict(matrix).tobytes() == two.predict(matrix).tobytes()
    assert (
        one.predict(matrix).tobytes()
        != fit(CONFIG, Binned.of(COLUMNS, (matrix, other, sizes)), {}, rounds=10).predict(matrix).tobytes()
    )


def test_no_rows_have_no_scores(ranker: LightGBMRanker) -> None:
    nothing = np.empty((0, len(COLUMNS)), np.float32)
    assert ranker.predict(nothing).tolist() == []
    assert ranker.explain(nothing, 3) == []
