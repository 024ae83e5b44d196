"""Items like a user's recent ones, against a naive reference; what arrives later is seen at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from models.catalog import Catalog
from serving.services import Services
from serving.similar import NEAR, TEXTS, SimilarItems


def naive(catalog: Catalog, users: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], most: int) -> list[int]:
    """The docstring of `SimilarItems.rows`, text by text."""
    likeness: dict[int, float] = {}
    for row in rows.tolist():
        text = int(catalog.text_of_row[row])
        near, similarity = catalog.index.search(catalog.vectors[text][None, :], NEAR)
        for other, value in zip(near[0].tolist(), similarity[0].tolist()):
            likeness[other] = likeness.get(other, 0.0) + value
    best = sorted(likeness, key=lambda text: (-likeness[text], text))[:TEXTS]
    found = [int(row) for text in best for row in catalog.rows(text)]
    return sorted(found, key=lambda row: (-users[row], row))[:most]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("warm", [False, True])
def test_rows_are_those_of_the_naive_reference_warm_or_cold(services: Services, seed: int, warm: bool) -> None:
    similar = SimilarItems(services.catalog, services.demand.item_users)
    if warm:
        similar.warm_up()
    rows = np.random.default_rng(seed).integers(0, len(services.table), 30)
    users = services.demand.item_users
    assert similar.rows(rows, 40).tolist() == naive(services.catalog, users, rows, 40)


def test_what_was_asked_before_changes_nothing(services: Services) -> None:
    random = np.random.default_rng(1)
    asked = [random.integers(0, len(services.table), 12) for _ in range(20)]
    forwards = SimilarItems(services.catalog, services.demand.item_users)
    backwards = SimilarItems(services.catalog, services.demand.item_users)
    one = [forwards.rows(rows, 20).tolist() for rows in asked]
    other = [backwards.rows(rows, 20).tolist() for rows in reversed(asked)]
    assert one == other[::-1]


def test_nobody_and_nothing_is_like_nothing(services: Services) -> None:
    assert len(services.similar.rows(np.empty(0, np.int64), 20)) == 0


@pytest.mark.parametrize("warm", [False, True])
def test_a_text_that_came_later_changes_no_list_looked_up_before_or_after(services: Services, warm: bool) -> None:
    """What arrived is proposed by `Arrivals`; a list must not depend on when it was looked up first."""
    old, users = services.catalog, services.demand.item_users
    row = int(np.argmax(users))
    similar = SimilarItems(old, users)
    if warm:
        similar.warm_up()
    before = SimilarItems(old, users).rows(np.array([row]), 20)
    later = similar.following(_with_twin(old, int(old.text_of_row[row])), np.append(users, 1e9))
    assert later.rows(np.array([row]), 20).tolist() == before.tolist()
    # The new item's own text is new: near it are the texts that its twin is near to.
    assert set(later.rows(np.array([len(users)]), 20).tolist()) & set(before.tolist())


def _with_twin(old: Catalog, text: int) -> Catalog:
    """The catalog with one more item, whose text is new and has the vector of ``text``."""
    from models.index import create_index

    vectors = np.concatenate((old.vectors, old.vectors[text][None, :]))
    text_of_row = np.append(old.text_of_row, np.int32(len(old.texts)))
    order = np.argsort(text_of_row, kind="stable")
    return replace(
        old,
        texts=(*old.texts, "a twin"),
        vectors=vectors,
        index=create_index(vectors),
        text_of_row=text_of_row,
        rows_by_text=order,
        text_starts=np.searchsorted(text_of_row[order], np.arange(len(old.texts) + 2)),
        label_of_row=np.append(old.label_of_row, old.label_of_row[int(np.flatnonzero(old.text_of_row == text)[0])]),
    )


def test_services_with_another_catalog_have_its_similar_items(services: Services) -> None:
    other = replace(services.catalog)
    exchanged = replace(services, catalog=other)
    assert exchanged.similar.catalog is other
    assert replace(services, candidates=100).similar is services.similar
