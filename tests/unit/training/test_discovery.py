"""The ranker of new items: its groups are those of a catalog without repeats, and validation decides if it serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features.history import History
from features.schema import RANKING_NAMES
from models import ranker
from models.blend import Blend
from models.networkfit import NetworkConfig
from models.ports import Contribution, FloatMatrix, FloatVector
from models.ranker import LightGBMRanker, RankerConfig
from tests.unit.features.shop import Journey, journey
from training import discovery
from training.config import TrainConfig
from training.discovery import LEAST_VALIDATION, NewCandidates
from training.fit import Views, fit_ranker
from training.metrics import ndcg
from training.protocols import ItemSets, Protocol, next_basket
from training.ranking import Groups, build_groups, in_time, informs, some

CONFIG = TrainConfig(
    llm=None,
    train_sessions=300,
    valid_sessions=200,
    search=False,
    ranker=RankerConfig(trees=8, min_leaf=5, threads=1),
    discovery=RankerConfig(objective="binary", trees=20, min_leaf=20, learning_rate=0.2, threads=1),
)
POPULAR = RANKING_NAMES.index("i_count_28d")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 120)


@pytest.fixture(scope="module")
def protocol(real: Journey) -> Protocol:
    return next_basket(real.frame, real.items)


class By:
    """Orders by one column, upwards or downwards."""

    columns = RANKING_NAMES

    def __init__(self, column: int, sign: float) -> None:
        self.column, self.sign = column, sign

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        return self.sign * np.nan_to_num(matrix[:, self.column].astype(np.float64))

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        raise NotImplementedError


def made(targets: int, seed: int, sign: float = 1.0) -> Groups:
    """Twenty candidates each; the one with the highest (or lowest) count is wanted, and chance decides a tenth."""
    rng = np.random.default_rng(seed)
    matrix = rng.lognormal(size=(targets * 20, len(RANKING_NAMES))).astype(np.float32)
    value = sign * matrix[:, POPULAR].reshape(targets, 20)
    value[rng.random(targets) < 0.1] = rng.random(20)
    relevance = (value == value.max(axis=1, keepdims=True)).astype(np.int32).ravel()
    sizes = np.full(targets, 20, np.int32)
    return Groups(matrix, np.tile(np.arange(20), targets), relevance, sizes, np.zeros(targets, np.int32))


def validating(train: int, valid: int) -> npt.NDArray[np.bool_]:
    return np.arange(train + valid) >= train


def test_groups_collected_beside_others_are_those_built_alone(real: Journey, protocol: Protocol) -> None:
    """Bit for bit, of the targets asked for that want one of their new candidates; the others are left out."""
    targets = in_time(some(protocol.train, 120, seed=2))
    views = Views.build(real.table, protocol.events, targets.time)
    events, since = protocol.events, protocol.since(targets)
    wanted = protocol.wanted_sets(targets)
    fresh = wanted.keep(~wanted.inside(protocol.had_sets(targets)))

    def history(number: int) -> History:
        return events.seen(int(since[number]), int(targets.start[number]), int(targets.time[number]))

    which = np.arange(len(targets)) % 3 > 0
    new = NewCandidates(which, fresh)
    plain = build_groups(history, views.at, targets, wanted.of, True)
    beside = build_groups(history, views.at, targets, wanted.of, True, beside=new.add)
    assert plain.matrix.tobytes() == beside.matrix.tobytes()
    alone = build_groups(history, views.at, targets, fresh.of, False)
    kept = which & informs(alone)
    assert 5 < kept.sum() < which.sum()
    expected = alone.keep(kept)
    found, numbers = new.groups()
    assert numbers.tolist() == np.flatnonzero(kept).tolist()
    for name in ("matrix", "rows", "relevance", "sizes", "missed"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
        assert getattr(found, name).dtype == getattr(expected, name).dtype, name
    owner = np.repeat(np.arange(len(numbers)), found.sizes)
    offered = ItemSets.build(owner, found.rows, len(numbers))
    assert not offered.inside(protocol.had_sets(targets.take(numbers))).any()


def test_nothing_collected_is_no_groups() -> None:
    nothing = np.empty(0, np.int64)
    found, numbers = NewCandidates(np.zeros(3, bool), ItemSets.build(nothing, nothing, 3)).groups()
    assert found.matrix.shape == (0, len(RANKING_NAMES))
    assert (len(found.sizes), len(numbers)) == (0, 0)
    fitted, gain = discovery.fit(CONFIG, found, np.zeros(0, bool), By(POPULAR, 1.0), {}, lambda _: None)
    assert (fitted, gain) == (None, None)


def test_a_ranker_that_orders_new_items_better_is_kept_and_says_by_how_much() -> None:
    groups, validates = made(600, seed=3), validating(400, 200)
    fitted, gain = discovery.fit(CONFIG, groups, validates, By(POPULAR, -1.0), {"schema_hash": "x"}, lambda _: None)
    assert fitted is not None
    assert gain is not None
    assert (gain.n, gain.low > 0.3) == (200, True)
    assert fitted.manifest["gain"] == {"validation": {"ndcg@10": gain.to_dict()}}
    assert fitted.manifest["targets"] == {"train": 400, "valid": 200}
    assert fitted.manifest["schema_hash"] == "x"
    assert fitted.manifest["parameters"]["objective"] == "binary"


def test_what_judged_is_learned_from_once_it_has_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the newest there is. The figures are those of the fit before."""
    made_of: list[tuple[int, npt.NDArray[np.float64]]] = []
    groups, validates = made(600, seed=3), validating(400, 200)
    held, plain = groups.keep(validates), ranker.fit

    def noting(config: RankerConfig, data: ranker.Binned, *rest: Any, **named: Any) -> LightGBMRanker:
        fitted = plain(config, data, *rest, **named)
        made_of.append((data.train.num_data(), ndcg(held, fitted)))
        return fitted

    monkeypatch.setattr(ranker, "fit", noting)
    fitted, gain = discovery.fit(CONFIG, groups, validates, By(POPULAR, -1.0), {}, lambda _: None)
    assert [rows for rows, _ in made_of] == [400 * 20, 600 * 20]
    assert fitted is not None
    assert gain is not None
    assert gain.mean == pytest.approx((made_of[0][1] - ndcg(held, By(POPULAR, -1.0))).mean())
    assert ndcg(held, fitted).tobytes() == made_of[1][1].tobytes() != made_of[0][1].tobytes()
    made_of.clear()
    assert discovery.fit(CONFIG, groups, validates, By(POPULAR, 1.0), {}, lambda _: None)[0] is None
    assert len(made_of) == 1, "what is not kept is not fitted again"


def test_a_ranker_that_orders_new_items_no_better_is_not_kept() -> None:
    """Against the order that made the wants, which nothing beats, and against itself."""
    groups, validates = made(600, seed=4), validating(400, 200)
    fitted, gain = discovery.fit(CONFIG, groups, validates, By(POPULAR, 1.0), {}, lambda _: None)
    assert fitted is None
    assert gain is not None
    assert gain.low <= 0
    same, _ = discovery.fit(CONFIG, groups, validates, By(POPULAR, -1.0), {}, lambda _: None)
    assert same is not None
    assert discovery.fit(CONFIG, groups, validates, same, {}, lambda _: None)[0] is None


def test_what_validates_teaches_nothing() -> None:
    """Wants that are the opposite where it is judged: who had trained on them would know."""
    one, other = made(400, seed=5), made(200, seed=6, sign=-1.0)
    parts = {name: np.concatenate((getattr(one, name), getattr(other, name))) for name in Groups.__slots__}
    fitted, gain = discovery.fit(CONFIG, Groups(**parts), validating(400, 200), By(POPULAR, -1.0), {}, lambda _: None)
    assert fitted is None
    assert gain is not None
    assert gain.high < -0.3


def test_too_few_to_judge_by_decide_nothing() -> None:
    groups = made(400 + LEAST_VALIDATION, seed=7)
    few = validating(401, LEAST_VALIDATION - 1)
    assert discovery.fit(CONFIG, groups, few, By(POPULAR, -1.0), {}, lambda _: None) == (None, None)
    enough = validating(400, LEAST_VALIDATION)
    assert discovery.fit(CONFIG, groups, enough, By(POPULAR, -1.0), {}, lambda _: None)[0] is not None
    assert discovery.fit(CONFIG, groups, np.ones(len(groups.sizes), bool), By(POPULAR, -1.0), {}, lambda _: None) == (
        None,
        None,
    )


def test_a_system_with_repeats_tries_a_ranker_of_new_items_and_records_it(real: Journey, protocol: Protocol) -> None:
    system = fit_ranker(CONFIG, protocol, real.table, True, {"data_hash": "x"})
    recorded = system.ranker.manifest["discovery"]
    quick = recorded["validation"]["over_a_quick_fit"]["ndcg@10"]
    assert quick["n"] >= LEAST_VALIDATION
    assert recorded["kept"] is (system.discovery is not None) is (quick["low"] > 0)


@pytest.mark.parametrize(("sign", "kept"), [(-1.0, True), (1.0, False)])
def test_it_serves_where_it_gains_and_nowhere_else(
    real: Journey, protocol: Protocol, monkeypatch: pytest.MonkeyPatch, sign: float, kept: bool
) -> None:
    won = discovery.fit(CONFIG, made(600, seed=3), validating(400, 200), By(POPULAR, sign), {}, lambda _: None)
    assert won[1] is not None
    monkeypatch.setattr(discovery, "fit", lambda *_: won)
    system = fit_ranker(CONFIG, protocol, real.table, True, {})
    assert system.discovery is won[0]
    assert (system.discovery is not None) is kept
    recorded = {"kept": kept, "validation": {"over_a_quick_fit": {"ndcg@10": won[1].to_dict()}}}
    assert system.ranker.manifest["discovery"] == recorded


def test_a_network_says_its_part_where_it_helps(tmp_path: Path) -> None:
    """What is wanted is where two columns cancel out, which trees say badly."""
    small = NetworkConfig(units=(16, 8), epochs=20, least_targets=50, targets_a_step=16)
    config = CONFIG.model_copy(update={"network": small})
    groups, validates = made(600, seed=3), validating(400, 200)
    groups.matrix[:, :2] = np.random.default_rng(1).normal(size=(len(groups.matrix), 2))
    off = np.abs(groups.matrix[:, 0] + groups.matrix[:, 1]).reshape(600, -1)
    smooth = replace(groups, relevance=(off == off.min(axis=1, keepdims=True)).astype(np.int32).ravel())
    facts = {"schema_hash": "mine"}
    fitted, gain = discovery.fit(config, smooth, validates, By(POPULAR, -1.0), facts, lambda _: None)
    assert fitted is not None
    assert gain is not None
    noted = fitted.manifest["network"]
    assert fitted.network is not None
    assert noted["kept"] is True
    assert noted["validation"]["over_trees"]["mean"] > 0
    assert noted["validation"]["over_trees"]["n"] == 200
    alone = CONFIG.model_copy(update={"network": None})
    _, less = discovery.fit(alone, smooth, validates, By(POPULAR, -1.0), facts, lambda _: None)
    assert less is not None
    assert gain.mean > less.mean
    fitted.save(tmp_path / "discovery")
    loaded = Blend.load(tmp_path / "discovery", "mine")
    assert loaded.predict(groups.matrix).tobytes() == fitted.predict(groups.matrix).tobytes()


@pytest.mark.parametrize(("repeats", "sessions"), [(False, 10_000), (True, 0)])
def test_where_all_items_are_new_or_nobody_asked_there_is_none(
    real: Journey, protocol: Protocol, repeats: bool, sessions: int
) -> None:
    config = CONFIG.model_copy(update={"discovery_sessions": sessions})
    system = fit_ranker(config, protocol, real.table, repeats, {})
    assert system.discovery is None
    assert "discovery" not in system.ranker.manifest


def test_the_ranker_of_new_items_changes_nothing_of_the_other(real: Journey, protocol: Protocol) -> None:
    without = CONFIG.model_copy(update={"discovery_sessions": 0})
    one, other = (fit_ranker(config, protocol, real.table, True, {}) for config in (CONFIG, without))
    matrix = one.groups(protocol.test).matrix
    assert one.ranker.predict(matrix).tobytes() == other.ranker.predict(matrix).tobytes()


def test_each_candidate_by_itself_is_saved_loaded_and_explained(tmp_path: Path) -> None:
    """Its contributions and one number for all rows add up to the score."""
    groups, validates = made(300, seed=8), validating(200, 100)
    facts = {"schema_hash": "mine"}
    fitted, _ = discovery.fit(CONFIG, groups, validates, By(POPULAR, -1.0), facts, lambda _: None)
    assert fitted is not None
    fitted.save(tmp_path / "discovery")
    loaded = Blend.load(tmp_path / "discovery", "mine")
    matrix = groups.matrix[:50]
    scores = loaded.predict(matrix)
    assert scores.tobytes() == fitted.predict(matrix).tobytes()
    explained = [sum(one.contribution for one in row) for row in loaded.explain(matrix, len(RANKING_NAMES))]
    left = scores - np.array(explained)
    assert np.ptp(scores) > 0.5
    assert np.ptp(left) < 1e-9
