"""The ranker's network: its curves, its bits, what it says of a score, and what it can learn."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtri

from models.errors import ArtifactMismatch
from models.network import Network, Scale, bucket_edges, buckets
from models.networkfit import NetworkConfig, fit, fit_scale

COLUMNS = 7
GROUP = 20
Floats = npt.NDArray[np.float32]
AWKWARD = [0.0, -0.0, 1e-45, -1e-38, 1.0, -1.0, 3.0, 1e30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]


def matrix(rows: int, seed: int, missing: float = 0.2) -> Floats:
    """Counts, shares, days, a constant, a column of nothing, and NaN here and there."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, COLUMNS)).astype(np.float32)
    values[:, 1] = random.integers(0, 5, rows)
    values[:, 2] = random.lognormal(0, 3, rows)
    values[:, 3] = 0.1
    values[random.random(values.shape) < missing] = np.nan
    values[:, 4] = np.nan
    return values


def data(groups: int, seed: int) -> tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Wanted is what lies nearest to the middle of one column, and where another is missing nothing is."""
    values = matrix(groups * GROUP, seed, missing=0.0)
    values[np.random.default_rng(seed + 1).random(len(values)) < 0.3, 5] = np.nan
    off = np.where(np.isnan(values[:, 5]), 9.0, np.abs(values[:, 0] - 0.5)).reshape(groups, GROUP)
    relevance = (off == off.min(axis=1, keepdims=True)).astype(np.int32)
    return values, relevance.ravel(), np.full(groups, GROUP, np.int32)


CONFIG = NetworkConfig(units=(16, 8), epochs=40, least_targets=1, targets_a_step=16)


def trained(config: NetworkConfig = CONFIG, unused: tuple[int, ...] = ()) -> Network:
    values, relevance, sizes = data(300, 1)
    return fit(config, values, relevance, sizes, np.arange(300), unused=unused)


@pytest.fixture(scope="module")
def network() -> Network:
    return trained()


def first_right(network: Network, seed: int = 9) -> float:
    values, relevance, sizes = data(200, seed)
    best = network.predict(values).reshape(-1, GROUP).argmax(axis=1)
    return float(relevance.reshape(-1, GROUP)[np.arange(len(sizes)), best].mean())


def by_layers(network: Network, values: Floats) -> npt.NDArray[np.float64]:
    """The same network as arrays, in double precision."""
    scaled = network.scale.apply(values, np.arange(len(values))).astype(np.float64)
    lost = np.isnan(scaled)
    first = np.where(lost, 0.0, scaled) @ network.value.astype(np.float64) + lost @ network.absent.astype(np.float64)
    hidden = np.maximum(first + network.first, 0.0)
    return np.asarray(np.maximum(hidden @ network.between.astype(np.float64) + network.second, 0.0) @ network.last)


def test_it_learns_what_one_split_cannot_say(network: Network) -> None:
    """Nearest to a value, unless something is missing; chance is right once in twenty."""
    assert first_right(network) > 0.7


def test_training_twice_gives_the_same_bits(network: Network) -> None:
    again = trained()
    for part in fields(Network):
        if part.name != "scale":
            assert getattr(again, part.name).tobytes() == getattr(network, part.name).tobytes()
    other = trained(CONFIG.model_copy(update={"seed": 8}))
    assert other.value.tobytes() != network.value.tobytes()


def test_training_leaves_threads_and_chance_as_they_were() -> None:
    import torch

    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    trained(CONFIG.model_copy(update={"epochs": 1}))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_column_that_shall_not_count_does_not() -> None:
    unused = trained(unused=(0, 5))
    values = data(20, 3)[0]
    changed = values.copy()
    changed[:, 0], changed[:, 5] = 7.0, np.nan
    assert unused.predict(values).tobytes() == unused.predict(changed).tobytes()
    assert first_right(unused) < 0.3
    assert not unused.shares(values)[:, [0, 5]].any()


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 199, 200])
def test_scores_are_those_of_its_layers(network: Network, rows: int) -> None:
    values = matrix(rows, rows)
    np.testing.assert_allclose(network.predict(values), by_layers(network, values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (16, 3), (33, 16), (40, 17)])
def test_sums_run_in_one_order_whatever_the_number_of_units(network: Network, first: int, second: int) -> None:
    """To the bit: input after input, in single precision, products rounded before they are added."""
    random = np.random.default_rng(first)

    def some(*shape: int) -> Floats:
        return random.normal(size=shape).astype(np.float32)

    value, absent = some(COLUMNS, first), some(COLUMNS, first)
    begin, between, middle, last = some(first), some(first, second), some(second), some(second)
    tells = np.ones(COLUMNS, bool)
    other = Network(network.scale, value, absent, tells, begin, between, middle, last)
    values = matrix(11, 5)
    scaled = network.scale.apply(values, np.arange(11))
    for row, score in zip(scaled, other.predict(values)):
        one, two = begin.copy(), middle.copy()
        for column in np.flatnonzero(np.isnan(row)):
            one += absent[column]
        for column in range(COLUMNS):
            one += np.float32(np.nan_to_num(row[column])) * value[column]
        for unit in range(first):
            two += np.maximum(one[unit], np.float32(0)) * between[unit]
        total = 0.0
        for unit in range(second):
            total += float(max(two[unit], 0.0)) * float(last[unit])
        assert score == total


def test_a_score_does_not_depend_on_its_batch(network: Network) -> None:
    """Nor on whether the matrix is a copy: what trains, serves and backfills scores other batches."""
    values = matrix(50, 7)
    whole = network.predict(values)
    for size in (1, 2, 3, 7):
        parts = [network.predict(values[at : at + size]) for at in range(0, len(values), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
        reasons = [network.shares(values[at : at + size]) for at in range(0, len(values), size)]
        assert np.concatenate(reasons).tobytes() == network.shares(values).tobytes()
    assert network.shares(values[:0]).shape == (0, COLUMNS + 1)
    assert network.predict(np.asfortranarray(values)).tobytes() == whole.tobytes()
    assert network.predict(values[::-1])[::-1].tobytes() == whole.tobytes()


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (5, COLUMNS), elements=st.one_of(st.sampled_from(AWKWARD), st.floats(width=32))))
def test_contributions_add_up_to_the_score_whatever_a_row_holds(network: Network, values: Floats) -> None:
    scores, shares = network.predict(values), network.shares(values)
    assert np.isfinite(scores).all()
    assert shares.shape == (5, COLUMNS + 1)
    np.testing.assert_allclose(shares.sum(axis=1), scores, rtol=1e-4, atol=1e-4)
    # What every row has in common is no column's doing.
    assert len(set(shares[:, -1].tolist())) == 1


def test_what_decided_has_the_largest_contribution(network: Network) -> None:
    values = data(20, 5)[0]
    mean = np.abs(network.shares(values))[:, :-1].mean(axis=0)
    assert set(np.argsort(-mean)[:2].tolist()) == {0, 5}
    assert not mean[[3, 4]].any()


def test_a_loaded_network_scores_to_the_bit_what_the_saved_one_did(network: Network, tmp_path: Path) -> None:
    values = matrix(60, 2)
    network.save(tmp_path / "network.npz")
    loaded = Network.load(tmp_path / "network.npz", COLUMNS)
    assert loaded.predict(values).tobytes() == network.predict(values).tobytes()
    assert loaded.shares(values).tobytes() == network.shares(values).tobytes()
    with pytest.raises(ArtifactMismatch, match=f"scores {COLUMNS} columns, not 8"):
        Network.load(tmp_path / "network.npz", 8)
    for damaged in (b"", b"PK\x03\x04 no", (tmp_path / "network.npz").read_bytes()[:-30]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(ArtifactMismatch, match=r"damaged\.npz is no network"):
            Network.load(tmp_path / "damaged.npz", COLUMNS)


def scaled(scale: Scale, values: Floats) -> Floats:
    return scale.apply(np.ascontiguousarray(values), np.arange(len(values)))


def test_curves_are_close_to_normal_quantiles_and_never_fall() -> None:
    values = matrix(20_000, 11)
    found = scaled(fit_scale(values, 0), values)
    assert (np.isnan(found) == np.isnan(values)).all()
    for column in (0, 1, 2, 5):
        own = values[:, column]
        there = ~np.isnan(own)
        order = np.sort(own[there])
        middle = (np.searchsorted(order, own[there], "left") + np.searchsorted(order, own[there], "right")) / 2
        exact = ndtri(np.clip((middle + 0.5) / (len(order) + 1), 1e-3, 1 - 1e-3))
        # Straight within a bucket, of which there are eight to a doubling: near zero and in the tails it is off most.
        assert np.abs(found[there, column] - exact).mean() < 0.03
        assert np.abs(found[there, column] - exact).max() < 0.5
        by_value = found[there, column][np.argsort(own[there], kind="stable")]
        assert (np.diff(by_value) >= -1e-6).all()
    assert not np.nan_to_num(found[:, 3]).any()


def test_what_training_never_saw_is_cut_to_what_it_saw() -> None:
    values = matrix(1_000, 12, missing=0.0)[:, [0, 1, 2, 3, 5, 6]]
    scale = fit_scale(values, 0)
    ends = scaled(scale, np.stack((values.min(axis=0), values.max(axis=0))))
    beyond = scaled(scale, np.stack((np.full(6, -np.inf, np.float32), np.full(6, np.inf, np.float32))))
    np.testing.assert_array_equal(ends, beyond)


def test_zero_with_a_sign_is_zero() -> None:
    scale = fit_scale(matrix(1_000, 12), 0)
    plain = np.zeros((1, COLUMNS), np.float32)
    assert scaled(scale, -plain).tobytes() == scaled(scale, plain).tobytes()


@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_buckets_hold_their_values_in_order(values: Floats) -> None:
    found = buckets(values).astype(np.int64)
    assert (bucket_edges(found) <= values).all()
    inside = found < buckets(np.array([3.4e38], np.float32))[0]
    assert (values[inside] < bucket_edges(found[inside] + 1)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_the_sample_of_a_long_matrix_says_the_same_twice() -> None:
    values = np.random.default_rng(0).normal(size=(210_000, 1)).astype(np.float32)
    one, two = fit_scale(values, 3), fit_scale(values, 3)
    assert one.curve.tobytes() == two.curve.tobytes()
    assert np.abs(scaled(one, values)[:, 0] - values[:, 0])[np.abs(values[:, 0]) < 2].max() < 0.1


def test_absence_told_by_several_columns_is_learned_once(network: Network) -> None:
    """Columns that are always missing together would share what one can say."""
    values, relevance, sizes = data(100, 1)
    doubled = np.concatenate((values, values[:, 5:6]), axis=1)
    found = fit(CONFIG.model_copy(update={"epochs": 1}), doubled, relevance, sizes, np.arange(100))
    assert found.tells[5]
    assert not found.tells[COLUMNS]
    assert replace(network, tells=np.zeros(COLUMNS, bool)).predict(values).tolist() != network.predict(values).tolist()
