"""Recommend of new items only: nothing the user had, ordered and explained by the ranker of such items."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from features.schema import RANKING_NAMES, schema_hash
from features.workspace import Workspace
from models import release
from models.errors import ArtifactMismatch, EngineUnavailable
from models.ports import Contribution, FloatMatrix, FloatVector
from serving.config import ServeConfig
from serving.load import DISCOVERY, RANKER, Trees, load_services
from serving.messages import Recommendation, RecommendedItem
from serving.pipeline import record_events
from serving.scorers import LocalScorer
from serving.services import Scorer, Services
from tests.unit.serving.asking import ask
from tests.unit.serving.rankers import small_ranker
from tests.unit.serving.test_record import bought

PROFILE = "two adults and a new baby, mostly vegetarian, we cook Mexican food"


@dataclass
class Watched:
    """A scorer; keeps what it was asked to score."""

    scorer: Scorer
    asked: list[FloatMatrix] = field(default_factory=list)

    async def score(self, matrix: FloatMatrix) -> FloatVector:
        self.asked.append(matrix.copy())
        return await self.scorer.score(matrix)

    async def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return await self.scorer.explain(matrix, top)


class Dead:
    """A ranker whose deployment is gone."""

    async def score(self, _: FloatMatrix) -> FloatVector:
        raise EngineUnavailable("the deployment does not answer")

    async def explain(self, _: FloatMatrix, __: int) -> list[tuple[Contribution, ...]]:
        raise EngineUnavailable("the deployment does not answer")


@pytest.fixture(scope="module")
def discovering(services: Services) -> Services:
    return replace(services, discovery=LocalScorer(small_ranker()))


def had(services: Services, user: str, answer: Recommendation) -> list[str]:
    """What an answer holds of the user's own items."""
    own = set(services.store.history(user).item.tolist())
    return [one.item_id for one in answer.items if int(services.table.keys[services.table.row_of(one.item_id)]) in own]


@pytest.mark.parametrize("k", [10, 100])
async def test_nothing_comes_back_that_the_user_had(discovering: Services, households: list[str], k: int) -> None:
    for user in households[::7]:
        usual, answer = await ask(discovering, user, k=k), await ask(discovering, user, k=k, new_only=True)
        assert had(discovering, user, usual)
        assert not had(discovering, user, answer)
        assert (answer.path, answer.header.degraded, answer.shortfall) == ("known_user", (), "")
        assert len({one.item_id for one in answer.items}) == k
        assert {one.decided_by for one in answer.items} == {"discovery"}
        assert not any("repeat" in one.sources for one in answer.items)
        scores = [one.score for one in answer.items]
        assert scores == sorted(scores, reverse=True)


async def test_what_was_bought_a_second_ago_is_not_new(discovering: Services, households: list[str]) -> None:
    user, now = households[9], discovering.config.data_end + 50
    first = [one.item_id for one in (await ask(discovering, user, new_only=True)).items]
    record_events(discovering, [bought(user, item, now) for item in first])
    answer = await ask(discovering, user, k=100, new_only=True)
    assert answer.as_of == now + 1
    assert not set(first) & {one.item_id for one in answer.items}
    assert not had(discovering, user, answer)


async def test_at_a_past_time_what_was_bought_later_is_new(discovering: Services) -> None:
    user, end = f"new-{uuid.uuid4().hex}", discovering.config.data_end
    (item,) = (one.item_id for one in (await ask(discovering, "", k=1)).items)
    other = next(one for one in discovering.table.item_ids if one != item)
    record_events(discovering, [bought(user, other, end + 10), bought(user, item, end + 1_000)])

    async def new_at(at: int) -> set[str]:
        return {one.item_id for one in (await ask(discovering, user, k=100, at=at, new_only=True)).items}

    assert item in await new_at(end + 500)
    assert item not in await new_at(end + 2_000)


async def test_strict_rules_are_not_filled_up_with_what_the_user_had(services: Services, households: list[str]) -> None:
    """Where few candidates are allowed the most popular allowed ones join them."""
    labels = [label for label in ("CHEESE", "FLUID MILK PRODUCTS", "YOGURT") if label in services.catalog.labels]
    filled = 0
    for user in households:
        usual = await ask(services, user, k=50, require=(labels[0],))
        answer = await ask(services, user, k=50, require=(labels[0],), new_only=True)
        filled += bool(had(services, user, usual))
        assert answer.items
        assert not had(services, user, answer)
        assert {services.label_of(services.table.row_of(one.item_id)) for one in answer.items} == {labels[0]}
    assert filled > len(households) // 2


async def test_reasons_are_those_of_the_ranker_that_decided(services: Services, households: list[str]) -> None:
    """Its contributions and a bias add up to the score: what they leave of it does not vary."""
    watched = Watched(LocalScorer(small_ranker()))
    answer = await ask(replace(services, discovery=watched), households[0], k=30, explain=True, new_only=True)
    (matrix,) = watched.asked
    order = np.argsort(-(await watched.score(matrix)), kind="stable")[:30]
    whole = await watched.explain(np.ascontiguousarray(matrix[order]), len(RANKING_NAMES))
    # By name and share: a value that is absent is NaN, unlike itself.
    told = [[(reason.feature, reason.contribution) for reason in one.reasons] for one in answer.items]
    assert told == [[(reason.feature, reason.contribution) for reason in reasons[:4]] for reasons in whole]
    left = [
        one.score - sum(reason.contribution for reason in reasons)
        for one, reasons in zip(answer.items, whole, strict=True)
    ]
    assert np.ptp(left) < 1e-6  # a network's part is computed in single precision
    assert len({one.score for one in answer.items}) > 1


async def test_a_release_without_a_ranker_of_new_items_lets_its_ranker_decide(
    services: Services, households: list[str]
) -> None:
    answer = await ask(replace(services, discovery=None), households[0], k=50, explain=True, new_only=True)
    assert {one.decided_by for one in answer.items} == {"ranker"}
    assert all(one.reasons for one in answer.items)
    assert not had(services, households[0], answer)


def told(item: RecommendedItem) -> tuple[object, ...]:
    """An item and why; reasons by name and share, for a value that is absent is NaN, unlike itself."""
    reasons = [(reason.feature, reason.contribution) for reason in item.reasons]
    return item.item_id, item.score, item.decided_by, item.sources, reasons


@pytest.mark.parametrize("fields", [{}, {"profile": PROFILE}])
async def test_who_has_no_history_gets_the_same(discovering: Services, fields: dict[str, str]) -> None:
    usual = await ask(discovering, "", explain=True, **fields)  # type: ignore[arg-type]
    answer = await ask(discovering, "", explain=True, new_only=True, **fields)  # type: ignore[arg-type]
    assert answer.path == usual.path != "known_user"
    assert [told(one) for one in answer.items] == [told(one) for one in usual.items]


async def test_who_only_asks_as_usual_never_meets_the_other_ranker(services: Services, households: list[str]) -> None:
    usual = await ask(replace(services, discovery=Dead()), households[0], explain=True)
    assert {one.decided_by for one in usual.items} == {"ranker"}
    assert not usual.header.degraded


async def test_a_dead_ranker_of_new_items_degrades_to_the_order_of_retrieval(
    services: Services, households: list[str]
) -> None:
    answer = await ask(replace(services, discovery=Dead()), households[0], explain=True, new_only=True)
    assert {one.decided_by for one in answer.items} == {"retrieval"}
    assert [part.stage for part in answer.header.degraded] == ["ranking"]
    assert len(answer.items) == 10
    assert not had(services, households[0], answer)


# --- the release ------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(trained_workspace: Workspace, tmp_path: Path) -> tuple[Workspace, Path]:
    """A workspace of its own and its release's folder, without a ranker of new items."""
    shutil.copytree(trained_workspace.root, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    _, folder = release.read(workspace.releases)
    shutil.rmtree(folder / DISCOVERY, ignore_errors=True)
    return workspace, folder


async def test_the_ranker_of_new_items_is_loaded_with_the_release(
    copied: tuple[Workspace, Path], households: list[str]
) -> None:
    workspace, folder = copied
    assert Trees(folder).discovery is None
    assert load_services(workspace, ServeConfig(llm=None)).discovery is None
    saved = small_ranker(seed=5)
    saved.save(folder / DISCOVERY)
    assert Trees(folder).model(DISCOVERY) is not Trees(folder).model("ranker")
    loaded = load_services(workspace, ServeConfig(llm=None))
    watched = Watched(LocalScorer(saved))
    one = await ask(loaded, households[0], k=30, new_only=True)
    other = await ask(replace(loaded, discovery=watched), households[0], k=30, new_only=True)
    assert one.items == other.items
    assert len(watched.asked) == 1


@pytest.mark.parametrize("name", [RANKER, DISCOVERY])
def test_a_ranker_of_other_features_stops_the_start(copied: tuple[Workspace, Path], name: str) -> None:
    workspace, folder = copied
    shutil.rmtree(folder / name, ignore_errors=True)
    small_ranker(schema="another").save(folder / name)
    with pytest.raises(ArtifactMismatch, match=r"schema.*'another'"):
        load_services(workspace, ServeConfig(llm=None))


def test_a_release_of_other_features_stops_the_start_and_names_both_and_the_remedy(
    copied: tuple[Workspace, Path],
) -> None:
    workspace, folder = copied
    file = folder / "release.json"
    made = json.loads(file.read_text())
    assert made["versions"]["feature_schema"] == schema_hash()
    made["versions"]["feature_schema"] = "0123456789abcdef"
    file.write_text(json.dumps(made))
    expected = f"feature_schema '0123456789abcdef', this code runs '{schema_hash()}'. Run: tandem train"
    with pytest.raises(ArtifactMismatch, match=re.escape(expected)):
        load_services(workspace, ServeConfig(llm=None))
