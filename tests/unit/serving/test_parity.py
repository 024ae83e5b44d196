"""Training, online serving and backfill: the same features and scores, to the bit, for the same (user, item, time)."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.history import MAX_EVENTS
from features.keys import item_keys, place_key
from features.schema import RANKING_NAMES
from features.workspace import Workspace
from models import release
from models.ports import Contribution, FloatMatrix, FloatVector
from serving import parity
from serving.clock import RequestClock
from serving.codec import Codec
from serving.config import ServeConfig
from serving.load import DISCOVERY
from serving.messages import RecommendQuery
from serving.offline import known_users_services
from serving.parity import Answered, Difference, Moment, Offline, Scored
from serving.pipeline import recommend
from serving.services import Scorer, Services
from tests.unit.serving.rankers import small_ranker
from training.materialize import EventArrays, event_arrays, load_events
from training.ranking import CANDIDATES, Targets, build_groups

_DAY = 86_400


@dataclass
class Watched:
    """The ranker itself; keeps what it was asked to score."""

    ranker: Scorer
    matrix: FloatMatrix = field(default_factory=lambda: np.empty((0, 0), np.float32))

    async def score(self, matrix: FloatMatrix) -> FloatVector:
        self.matrix = matrix.copy()
        return await self.ranker.score(matrix)

    async def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return await self.ranker.explain(matrix, top)


@dataclass(frozen=True)
class Paths:
    """One release, as training, the service and a backfill see it."""

    offline: Offline
    services: Services
    watched: Watched
    discovering: Watched
    codec: Codec
    root: Path
    events: EventArrays

    def online(self, moment: Moment) -> dict[str, tuple[bytes, float]]:
        """Features and score of every candidate, by item id."""
        query = RecommendQuery(
            "r", 60_000, moment.user, "", CANDIDATES, at=moment.at, new_only=moment.new_only, place=moment.place
        )
        answer = asyncio.run(recommend(self.services, query, RequestClock(60_000)))
        assert answer.path == "known_user"
        return self._named(moment, [(item.item_id, item.score) for item in answer.items])

    def backfill(self, moment: Moment) -> dict[str, tuple[bytes, float]]:
        answer = parity.backfill(self.services, self.codec, self.root, CANDIDATES)(moment)
        return self._named(moment, [(item.item_id, item.score) for item in answer.items])

    def training(self, moment: Moment) -> dict[str, tuple[bytes, float]]:
        """What `build_groups` gives a learner for a session of the user that begins at the time."""
        user = self.events.users.index(moment.user)
        table, nothing = self.offline.table, np.empty(0, np.int64)
        one = (np.array([value], np.int64) for value in (user, moment.at, 0, 0, place_key(moment.place)))
        groups = build_groups(
            lambda _: self.events.history(user),
            lambda _: table,
            Targets(*one),
            lambda _: nothing,
            self.services.release.repeats and not moment.new_only,
        )
        scores = self.offline.scores(groups.matrix, self.offline.decider(moment))
        return {
            table.item_ids[row]: (features.tobytes(), float(score))
            for row, features, score in zip(groups.rows.tolist(), groups.matrix, scores)
        }

    def _named(self, moment: Moment, items: list[tuple[str, float]]) -> dict[str, tuple[bytes, float]]:
        """The watched matrix's rows by item: the reply lists them by score, ties in the order of the matrix."""
        decider = self.offline.decider(moment)
        matrix = (self.discovering if decider == DISCOVERY else self.watched).matrix
        order = np.argsort(-self.offline.scores(matrix, decider), kind="stable")
        assert len(items) == len(matrix)
        return {item: (matrix[at].tobytes(), score) for (item, score), at in zip(items, order.tolist())}


@pytest.fixture(scope="module")
def paths(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Of the slice's release and a ranker of new items: so few households train none that is worth keeping."""
    root = tmp_path_factory.mktemp("parity") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    workspace = Workspace(root)
    folder = release.read(workspace.releases)[1]
    shutil.rmtree(folder / DISCOVERY, ignore_errors=True)
    small_ranker(seed=9).save(folder / DISCOVERY)
    config = ServeConfig(llm=None)
    services = known_users_services(workspace, config)
    assert services.discovery is not None
    watched, discovering = Watched(services.ranker), Watched(services.discovery)
    offline = Offline(workspace)
    return Paths(
        offline,
        replace(services, ranker=watched, discovery=discovering),
        watched,
        discovering,
        Codec(config.limits, config.default_deadline_ms),
        root,
        event_arrays(load_events(workspace), offline.table.frame),
    )


@st.composite
def moments(draw: st.DrawFn, histories: Mapping[str, npt.NDArray[np.int64]], places: Sequence[str]) -> Moment:
    """Any user at any second until a month after his last event, or at the very second of one, which must not count;
    at any place, at one that never sold, or nobody knows where."""
    user = draw(st.sampled_from(sorted(histories)))
    time = histories[user]
    exact = st.sampled_from(time[time > time[0]].tolist() or [int(time[-1]) + 1])
    at = draw(st.integers(int(time[0]) + 1, int(time[-1]) + 30 * _DAY) | exact)
    return Moment(user, at, draw(st.booleans()), draw(st.sampled_from(("", "never", *places))))


def test_training_service_and_backfill_agree_to_the_bit_for_any_user_and_time(paths: Paths) -> None:
    """Only users whose whole history is kept can be asked about the past: the rest of it has left the online state."""
    times = {user: history.time for user, history in paths.offline.histories.items() if 0 < len(history) < MAX_EVENTS}

    places = pl.read_parquet(Workspace(paths.root).interactions)["place"].unique().sort().to_list()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(moments(times, places))
    def agree(moment: Moment) -> None:
        online, backfill, training = paths.online(moment), paths.backfill(moment), paths.training(moment)
        assert online == backfill
        common = online.keys() & training.keys()
        # The service has similar items as one more source, and fills up to what was asked; all else is the same.
        assert common
        assert len(common) >= len(training) * 3 // 4
        assert {item: online[item] for item in common} == {item: training[item] for item in common}
        # Whatever a reply holds can be computed offline, alone and in another order.
        items = sorted(online)
        rows = np.array([paths.offline.table.row_of(item) for item in items], np.int64)
        matrix = paths.offline.features(moment, rows)
        scores = paths.offline.scores(matrix, paths.offline.decider(moment))
        assert not (moment.new_only and paths.offline.had(moment, rows).any())
        assert [(row.tobytes(), float(score)) for row, score in zip(matrix, scores)] == [online[item] for item in items]

    agree()


# --- the comparison that `tandem evaluate parity` makes --------------------------------------------------------------


def explained(paths: Paths, moment: Moment) -> Answered:
    """What the service would reply with explanations, from the pipeline."""
    query = RecommendQuery(
        "r", 60_000, moment.user, "", 20, at=moment.at, explain=True, new_only=moment.new_only, place=moment.place
    )
    answer = asyncio.run(recommend(paths.services, query, RequestClock(60_000)))
    return Answered(
        answer.header.release,
        answer.path,
        answer.as_of,
        tuple(Scored(item.item_id, item.score, item.decided_by, item.reasons) for item in answer.items),
    )


def differences(paths: Paths, moment: Moment, answered: Answered) -> tuple[Difference, ...]:
    return parity.compare(paths.offline, {"service": lambda _: answered}, [moment]).differences


def test_an_honest_service_has_no_difference_and_everything_is_counted(paths: Paths) -> None:
    asked = paths.offline.moments(10, seed=1)
    report = parity.compare(paths.offline, {"service": lambda moment: explained(paths, moment)}, asked)
    assert report.differences == ()
    assert (report.requests, report.scores) == (10, 200)
    assert report.values >= report.scores


def test_one_bit_of_a_score_or_a_feature_is_found_and_named(paths: Paths) -> None:
    (moment,) = paths.offline.moments(1, seed=2)
    answered = explained(paths, moment)
    first, second, *others = answered.items
    reason, *rest = second.reasons
    wrong = math.nextafter(first.score, math.inf)
    changed = replace(reason, value=math.nextafter(reason.value, math.inf) if reason.value == reason.value else 0.0)
    items = (replace(first, score=wrong), replace(second, reasons=(changed, *rest)), *others)
    found = differences(paths, moment, replace(answered, items=items))
    assert [(one.user, one.at, one.item, one.column) for one in found] == [
        (moment.user, moment.at, first.item_id, "score"),
        (moment.user, moment.at, second.item_id, reason.feature),
    ]
    assert found[0].served == wrong.hex()
    assert found[0].offline == first.score.hex()


@pytest.mark.parametrize(
    ("change", "column"),
    [({"release": "r-other"}, "release"), ({"path": "cold_popular"}, "path"), ({"as_of": 1}, "as_of")],
)
def test_an_answer_of_another_release_path_or_time_is_one_difference(
    paths: Paths, change: dict[str, str], column: str
) -> None:
    (moment,) = paths.offline.moments(1, seed=3)
    (found,) = differences(paths, moment, replace(explained(paths, moment), **change))  # type: ignore[arg-type]
    assert (found.column, found.item) == (column, "")


def test_features_of_a_moment_later_are_noticed(paths: Paths) -> None:
    """A service that looked into the future by one session would be caught."""
    moment = next(one for one in paths.offline.moments(50, seed=4) if _has_later(paths, one))
    ahead = replace(moment, at=int(paths.offline.histories[moment.user].time[-1]) + 1)
    answered = replace(explained(paths, ahead), as_of=moment.at)
    assert {one.column for one in differences(paths, moment, answered)} & {"score", *RANKING_NAMES}


def _has_later(paths: Paths, moment: Moment) -> bool:
    return bool(paths.offline.histories[moment.user].time[-1] >= moment.at)


@pytest.mark.parametrize("other", [{"ranker": True}, {"discovery": True}])
def test_a_score_of_the_other_ranker_is_found(paths: Paths, other: dict[str, bool]) -> None:
    """Who orders new items by the ranker of all, or the other way round, says so or is caught."""
    moment = replace(paths.offline.moments(1, seed=8)[0], new_only="discovery" in other)
    honest = explained(paths, moment)
    exchanged = replace(moment, new_only=not moment.new_only)
    found = differences(paths, exchanged, replace(honest, as_of=exchanged.at))
    assert {"score", "decided_by"} <= {one.column for one in found}


def test_an_item_the_user_had_is_found_where_only_new_ones_were_asked_for(paths: Paths) -> None:
    moment = replace(paths.offline.moments(1, seed=8)[0], new_only=False)
    usual = explained(paths, moment)
    found = differences(paths, replace(moment, new_only=True), usual)
    had = {one.item for one in found if (one.column, one.offline) == ("item", "the user had it")}
    rows = paths.offline.table.rows_of(item_keys([one.item_id for one in usual.items]))
    mine = paths.offline.had(moment, rows)
    assert had == {one.item_id for one, own in zip(usual.items, mine, strict=True) if own} != set()
    assert {one.path for one in found} == {"service, new items only"}


def test_moments_are_of_known_users_after_their_first_event_and_drawn_by_the_seed(paths: Paths) -> None:
    asked = paths.offline.moments(100, seed=5)
    assert asked == paths.offline.moments(100, seed=5) != paths.offline.moments(100, seed=6)
    exact = 0
    for one in asked:
        time = paths.offline.histories[one.user].time
        assert one.at > time[0]
        exact += one.at in time
    assert exact >= 25
    assert sum(one.new_only for one in asked) == 50
    assert len({one.user for one in asked}) > 20


def test_recorded_events_count_offline_as_well(trained_workspace: Workspace, tmp_path: Path) -> None:
    from features.events import Recorder, SqliteEventLog
    from features.ports import Event
    from features.store import FeatureRepository

    shutil.copytree(trained_workspace.root, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    before = Offline(workspace)
    user = sorted(before.histories)[0]
    item = pl.read_parquet(workspace.items)["item_id"][0]
    at = int(before.histories[user].time[-1]) + 60
    repository = FeatureRepository(workspace.features, list(workspace.config().user_attributes))
    log = SqliteEventLog(workspace.events)
    Recorder(log, repository, repository.histories()).record([Event("e1", user, item, "purchase", 1.0, at, "s1")])
    log.close()
    after = Offline(workspace).histories[user]
    assert len(after) == len(before.histories[user]) + 1
    assert after.encode() == repository.user(user).history.encode()
