"""Trees and a network as one ranker: one score, one explanation, one artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.schema import RANKING_NAMES
from models.blend import Blend
from models.errors import ArtifactMismatch
from models.ports import FloatMatrix, TreeModel
from tests.unit.serving.rankers import small_ranker

COLUMNS = len(RANKING_NAMES)


def matrix(rows: int, seed: int = 1) -> FloatMatrix:
    values = np.random.default_rng(seed).lognormal(size=(rows, COLUMNS)).astype(np.float32)
    values[:, ::7] = np.nan
    return values


@pytest.fixture(scope="module")
def blend() -> Blend:
    return small_ranker(schema="abc")


def test_a_score_is_the_trees_and_the_networks_by_its_factor(blend: Blend) -> None:
    rows = matrix(50)
    assert blend.network is not None
    both = blend.trees.predict(rows) + blend.factor * blend.network.predict(rows)
    assert blend.predict(rows).tobytes() == both.tobytes()
    assert Blend(blend.trees).predict(rows).tobytes() == blend.trees.predict(rows).tobytes()
    assert blend.columns == RANKING_NAMES
    assert blend.predict(rows[:0]).tolist() == []


def test_contributions_and_bias_add_up_to_the_score(blend: Blend) -> None:
    """The bias is one number for all rows: what contributions leave of a score must not vary."""
    rows = matrix(30)
    for one in (blend, Blend(blend.trees)):
        explained = np.array([sum(reason.contribution for reason in row) for row in one.explain(rows, COLUMNS)])
        left = one.predict(rows) - explained
        np.testing.assert_allclose(left, left.mean(), atol=1e-5)
        assert one.explain(rows[:0], 3) == []


def test_reasons_are_the_largest_of_both_together(blend: Blend) -> None:
    rows = matrix(5)
    assert blend.network is not None
    shares = (blend.trees.shares(rows) + blend.factor * blend.network.shares(rows))[:, :-1]
    for row, values, reasons in zip(shares, rows, blend.explain(rows, 3)):
        assert [reason.feature for reason in reasons] == [RANKING_NAMES[at] for at in np.argsort(-np.abs(row))[:3]]
        for reason in reasons:
            at = RANKING_NAMES.index(reason.feature)
            assert reason.contribution == row[at]
            np.testing.assert_equal(reason.value, float(values[at]))


def test_a_loaded_blend_scores_and_explains_as_the_saved_one_did(blend: Blend, tmp_path: Path) -> None:
    rows = matrix(40)
    for number, one in enumerate((blend, Blend(blend.trees))):
        folder = tmp_path / str(number)
        one.save(folder)
        loaded: TreeModel = Blend.load(folder, "abc")
        assert loaded.predict(rows).tobytes() == one.predict(rows).tobytes()
        assert repr(loaded.explain(rows, 4)) == repr(one.explain(rows, 4))
        Blend.load(folder, "abc").save(tmp_path / "again")
        assert Blend.load(tmp_path / "again", "abc").manifest["files"] == Blend.load(folder, "abc").manifest["files"]
        assert (folder / "network.npz").exists() is (one.network is not None)


def test_another_schema_or_a_changed_network_is_refused(blend: Blend, tmp_path: Path) -> None:
    blend.save(tmp_path / "ranker")
    with pytest.raises(ArtifactMismatch, match=r"schema_hash is 'abc' in the manifest, this code needs 'xyz'"):
        Blend.load(tmp_path / "ranker", "xyz")
    assert blend.network is not None
    replace(blend.network, last=-blend.network.last).save(tmp_path / "ranker" / "network.npz")
    with pytest.raises(ArtifactMismatch, match=r"network\.npz is not the file its manifest names"):
        Blend.load(tmp_path / "ranker", "abc")
    (tmp_path / "ranker" / "network.npz").unlink()
    with pytest.raises(ArtifactMismatch, match=r"network\.npz is missing"):
        Blend.load(tmp_path / "ranker", "abc")


def test_importance_is_what_training_noted_or_the_trees_gain(blend: Blend) -> None:
    assert blend.importance() == blend.trees.importance()
    noted = {"importance": {"ui_again": 0.5}}
    trees = type(blend.trees)(blend.trees._booster, {**blend.manifest, "network": noted})
    assert replace(blend, trees=trees).importance() == {"ui_again": 0.5}
