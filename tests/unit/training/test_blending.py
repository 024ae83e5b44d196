"""Whether a network helps the trees is decided on validation, by fits that did not see it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features.schema import RANKING_NAMES
from models import networkfit
from models.networkfit import NetworkConfig
from models.ranker import Binned, LightGBMRanker, RankerConfig, fit
from tests.unit.features.shop import Journey
from tests.unit.training.test_fit import QUICK, real
from training import blending
from training.blending import SHARES, fit_network, join, judge, spread, together
from training.config import TrainConfig
from training.fit import fit_ranker
from training.protocols import next_basket
from training.ranking import Groups

__all__ = ["real"]

GROUP = 20
COLUMNS = len(RANKING_NAMES)
SMALL = NetworkConfig(units=(16, 8), epochs=20, least_targets=50, targets_a_step=16)
CONFIG = TrainConfig(network=SMALL)


def groups(targets: int, wanted: int, seed: int = 0) -> Groups:
    """Most wanted is what is nearest to the middle of a column: smooth, so that few steps say it badly."""
    random = np.random.default_rng(seed)
    matrix = np.zeros((targets * GROUP, COLUMNS), np.float32)
    matrix[:, :12] = random.normal(size=(len(matrix), 12))
    off = np.abs(matrix[:, wanted] + matrix[:, wanted + 1]).reshape(targets, GROUP)
    relevance = (off == off.min(axis=1, keepdims=True)).astype(np.int32).ravel()
    rows = np.tile(np.arange(GROUP, dtype=np.int64), targets)
    return Groups(matrix, rows, relevance, np.full(targets, GROUP, np.int32), np.zeros(targets, np.int32))


def trees(data: Groups, which: npt.NDArray[np.bool_], rounds: int) -> LightGBMRanker:
    part = data.keep(which)
    binned = Binned.of(RANKING_NAMES, (part.matrix, part.relevance, part.sizes), threads=1)
    return fit(RankerConfig(min_leaf=20, threads=1), binned, {"schema_hash": "x"}, rounds=rounds)


VALIDATES = np.arange(500) % 5 == 0


def test_what_orders_validation_better_is_kept_with_its_share() -> None:
    data = groups(500, 3)
    weak = trees(data, ~VALIDATES, 3)
    network = fit_network(CONFIG, data, ~VALIDATES)
    assert network is not None
    gain, both = judge(data, VALIDATES, weak, network, 7)
    assert gain.helps
    assert gain.share in SHARES
    assert gain.over_trees.n == VALIDATES.sum()
    joined = join(weak, network, gain, CONFIG, data)
    noted = joined.manifest["network"]
    assert noted["kept"] is True
    assert noted["share"] == gain.share
    assert noted["validation"] == {"ndcg@10": gain.ndcg, "over_trees": gain.over_trees.to_dict()}
    assert noted["parameters"] == SMALL.model_dump()
    # The share is one of the spread that the network's scores have beside the trees'.
    for one in (both, joined):
        other = one.factor * spread(network.predict(data.matrix), data.sizes)
        own = spread(weak.predict(data.matrix), data.sizes)
        assert other / (other + own) == pytest.approx(gain.share, rel=0.05)


def test_a_network_that_learned_something_else_does_not_help() -> None:
    data, other = groups(500, 3), groups(500, 9)
    good = trees(data, ~VALIDATES, 40)
    network = fit_network(CONFIG, other, ~VALIDATES)
    assert network is not None
    gain, _ = judge(data, VALIDATES, good, network, 7)
    assert not gain.helps
    assert gain.noted["kept"] is False
    assert gain.noted["share"] == 0.0


@pytest.mark.parametrize("config", [CONFIG.model_copy(update={"network": None}), CONFIG])
def test_too_few_targets_or_the_settings_want_none(config: TrainConfig) -> None:
    assert fit_network(config, groups(500, 3), np.arange(500) < 49) is None


def test_both_are_fitted_at_once_and_an_error_of_either_is_told() -> None:
    """Each waits for the other to begin: one after the other neither would end."""
    begun: set[str] = set()

    def wait_for(own: str, other: str) -> str:
        begun.add(own)
        until = time.monotonic() + 30
        while other not in begun and time.monotonic() < until:
            time.sleep(0.001)
        assert other in begun
        return own

    assert together(lambda: wait_for("a", "b"), lambda: wait_for("b", "a")) == ("a", "b")

    def broken() -> str:
        raise ValueError("no")

    for one, other in ((broken, lambda: "x"), (lambda: "x", broken)):
        with pytest.raises(ValueError, match="no"):
            together(one, other)


def test_spread_is_within_targets() -> None:
    sizes = np.array([2, 0, 3], np.int32)
    scores = np.array([1.0, 3.0, 100.0, 100.0, 100.0])
    assert spread(scores, sizes) == pytest.approx(0.5)
    assert spread(np.ones(5), sizes) == 1.0
    assert spread(np.empty(0), np.empty(0, np.int32)) == 1.0


@pytest.mark.parametrize("helps", [True, False])
def test_a_fitted_system_has_a_network_where_it_helps(
    real: Journey, monkeypatch: pytest.MonkeyPatch, helps: bool, tmp_path: Path
) -> None:
    """The network learns from training targets while it is judged, then from all."""
    seen: list[int] = []

    def noting(config: NetworkConfig, matrix: Any, relevance: Any, sizes: Any, which: Any, **rest: Any) -> Any:
        seen.append(len(which))
        return networkfit_fit(config, matrix, relevance, sizes, which, **rest)

    networkfit_fit = networkfit.fit
    monkeypatch.setattr(networkfit, "fit", noting)
    monkeypatch.setattr(blending.Gain, "helps", property(lambda _: helps))
    small = SMALL.model_copy(update={"least_targets": 1, "epochs": 2})
    config = QUICK.model_copy(update={"network": small, "ranker": RankerConfig(trees=9, min_leaf=5, threads=1)})
    protocol = next_basket(real.frame, real.items)
    system = fit_ranker(config, protocol, real.table, True, {"data_hash": "x"})
    manifest = system.ranker.manifest
    assert manifest["network"]["kept"] is helps
    assert manifest["network"]["share"] in (SHARES if helps else (0.0,))
    assert (system.ranker.network is not None) is helps
    assert manifest["parameters"]["learning_rate"] == pytest.approx(0.12 * (2 if helps else 1))
    assert manifest["rounds"] == (3 if helps else 9)
    if helps:
        assert len(seen) == 2
        assert seen[0] < seen[1]
        assert manifest["validation_ndcg@10"] == manifest["network"]["validation"]["ndcg@10"]
        assert set(manifest["network"]["importance"]) == set(RANKING_NAMES)
        assert system.importance == manifest["network"]["importance"]
    else:
        assert len(seen) == 1
    system.ranker.save(tmp_path / "ranker")
    groups = system.groups(protocol.test)
    loaded = type(system.ranker).load(tmp_path / "ranker", manifest["schema_hash"])
    assert loaded.predict(groups.matrix).tobytes() == system.ranker.predict(groups.matrix).tobytes()


def test_settings_can_want_no_network() -> None:
    """As a settings file says it: TOML has no word for nothing."""
    assert TrainConfig.model_validate({"network": False}).network is None
    assert TrainConfig.model_validate({"network": {"units": [16, 8]}}).network == NetworkConfig(units=(16, 8))
    assert TrainConfig().network == NetworkConfig()
