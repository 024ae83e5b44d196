"""Does serving compute what training computes? A running service's scores and features, recomputed offline.

The offline side knows nothing of the online store and of the pipelines: a user's history comes from the files and the
log that training reads, item table and ranker from the release. What is compared is equal to the bit or it is listed.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from features.candidates import together_with
from features.items import ItemTable
from features.keys import item_keys, place_key, place_keys
from features.schema import RANKING_NAMES, schema_hash
from features.transforms import assemble, summarize
from features.workspace import Workspace
from models import release
from models.blend import Blend
from models.ports import Contribution
from protos.tandem.v1 import recommender_pb2
from serving.batch import Users
from serving.client import Client
from serving.codec import Codec
from serving.config import ServeConfig
from serving.errors import NotReady
from serving.jobfolder import JobFolder
from serving.load import DISCOVERY, RANKER
from serving.offline import known_users_services, place_names, stored_histories
from serving.services import Services

ITEMS = 50
"""Items asked for in each request; all are compared."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A user and the time (seconds since 1970) that features are computed at; whether only new items are wanted; and
    the place that is told, empty for none."""

    user: str
    at: int
    new_only: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """One item of an answer: its score, and the features it named with their values and contributions."""

    item_id: str
    score: float
    decided_by: str
    reasons: tuple[Contribution, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """What one path of serving said of one Moment."""

    release: str
    path: str
    as_of: int
    items: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two values that should have been one. ``column``: a feature, ``contribution of`` a feature, ``score``,
    ``decided_by``, ``item``, or ``path``, ``release`` and ``as_of`` of an answer as a whole (``item`` is then empty).
    ``path`` says where only new items were asked for."""

    path: str
    user: str
    at: int
    item: str
    column: str
    served: str
    offline: str


@dataclass(frozen=True, slots=True)
class Report:
    """How many requests, scores and feature values were compared, and what differed."""

    release: str
    requests: int
    scores: int
    values: int
    differences: tuple[Difference, ...]


Ask = Callable[[Moment], Answered]
"""A path of serving: the running service, or a backfill's rows."""


class Offline:
    """A release and the histories behind it, without anything of serving.

    ``table``: the item table with what arrived after training; None takes the release's own.
    """

    def __init__(self, workspace: Workspace, table: ItemTable | None = None) -> None:
        current, folder = release.read(workspace.releases)
        self.release = current.id
        self.table = table or ItemTable.load(folder / "item_table")
        self._rankers = {
            name: Blend.load(folder / name, schema_hash()) for name in (RANKER, DISCOVERY) if (folder / name).exists()
        }
        self.histories = stored_histories(workspace)
        names = place_names(workspace)
        self._places = dict(zip(place_keys(names).tolist(), names))

    def moments(self, count: int, seed: int) -> list[Moment]:
        """Users and times drawn at random, each after the user's first event; half of the times are those of events.

        An event at the very time asked for must not count: that is where paths would part. Half of the moments of
        either kind ask for new items only. Two of three tell a place: one of the user's, or one where nothing was sold.
        """
        users = sorted(user for user, history in self.histories.items() if len(history))
        if not users:
            raise NotReady("the workspace knows no user with a history to ask for; ingest interactions")
        random = np.random.default_rng(seed)
        moments = []
        for number in range(count):
            user = users[int(random.integers(len(users)))]
            time = self.histories[user].time
            later = time[time > time[0]]
            if number % 2 and len(later):
                at = int(random.choice(later))
            else:
                at = int(random.integers(int(time[0]) + 1, int(time[-1]) + 14 * 86_400))
            own = self._places.get(int(random.choice(self.histories[user].place)), "")
            moments.append(Moment(user, at, number % 4 >= 2, ("", own, "nowhere else")[number % 3]))
        return moments

    def features(self, moment: Moment, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The ranking matrix [len(rows), columns] of the user's items at the time."""
        profile = summarize(self.histories[moment.user], self.table, moment.at, place_key(moment.place))
        return assemble(profile, self.table, rows, together_with(profile, self.table, rows))

    def decider(self, moment: Moment) -> str:
        """Which ranker decides."""
        return DISCOVERY if moment.new_only and DISCOVERY in self._rankers else RANKER

    def had(self, moment: Moment, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the user had each item before the time [len(rows)]."""
        return np.isin(self.table.keys[rows], self.histories[moment.user].before(moment.at).item)

    def scores(self, matrix: npt.NDArray[np.float32], ranker: str = RANKER) -> npt.NDArray[np.float64]:
        return self._rankers[ranker].predict(matrix)

    def contributions(self, matrix: npt.NDArray[np.float32], ranker: str = RANKER) -> list[Mapping[str, float]]:
        """Every column's share of every row's score."""
        explained = self._rankers[ranker].explain(matrix, len(RANKING_NAMES))
        return [{reason.feature: reason.contribution for reason in row} for row in explained]


def evaluate(
    workspace: Workspace,
    config: ServeConfig,
    client: Client,
    requests: int,
    seed: int,
    progress: Callable[[str, float], None],
) -> Report:
    """Compare a running service, and a backfill of the same workspace, with the release computed offline.

    Raises CallFailed where the service does not answer, NotReady where nobody can be asked for.
    """
    progress("loading the release", 0.0)
    services = known_users_services(workspace, config)
    offline = Offline(workspace, services.table if workspace.arrivals.exists() else None)
    paths = {
        "service": service(client),
        "backfill": backfill(services, Codec(config.limits, config.default_deadline_ms), workspace.root),
    }
    moments = offline.moments(requests, seed)
    return compare(offline, paths, moments, lambda done: progress("comparing", done))


def table(report: Report, most: int = 20) -> RenderableType:
    """What was compared, and the first ``most`` differences."""
    summary = (
        f"release {report.release}: {report.requests:,} answers, {report.scores:,} scores and {report.values:,} values "
        f"of features with their contributions recomputed; {len(report.differences):,} differ"
    )
    if not report.differences:
        return Text(summary)
    rows = Table(title=summary, title_justify="left")
    for column in ("path", "user", "at", "item", "column", "served", "offline"):
        rows.add_column(column, overflow="fold")
    for one in report.differences[:most]:
        rows.add_row(one.path, one.user, str(one.at), one.item, one.column, one.served, one.offline)
    return rows


def compare(
    offline: Offline,
    paths: Mapping[str, Ask],
    moments: Sequence[Moment],
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Ask every path for every moment and recompute the answers' items offline."""
    differences: list[Difference] = []
    scores = values = 0
    for number, moment in enumerate(moments):
        for name, ask in paths.items():
            answered = ask(moment)
            differences += _compare(offline, name, moment, answered)
            scores += len(answered.items)
            values += sum(len(item.reasons) for item in answered.items)
        progress((number + 1) / len(moments))
    return Report(offline.release, len(moments) * len(paths), scores, values, tuple(differences))


def service(client: Client, items: int = ITEMS) -> Ask:
    """The running service, asked for the past (``at``) with explanations. Its calls raise CallFailed."""

    def ask(moment: Moment) -> Answered:
        reply = client.recommend(
            recommender_pb2.RecommendRequest(
                user_id=moment.user,
                at=moment.at,
                k=items,
                explain=True,
                new_only=moment.new_only,
                place=moment.place,
            )
        )
        return Answered(
            reply.release,
            reply.path,
            reply.as_of,
            tuple(
                Scored(
                    item.item_id,
                    item.score,
                    item.decided_by,
                    tuple(Contribution(part.feature, part.value, part.contribution) for part in item.reasons),
                )
                for item in reply.items
            ),
        )

    return ask


def backfill(services: Services, codec: Codec, folder: Path, items: int = ITEMS) -> Ask:
    """The rows a backfill would write, in this process; nothing is written to ``folder``."""

    def ask(moment: Moment) -> Answered:
        users = Users(JobFolder(folder), codec, items, moment.at, moment.new_only, moment.place)
        rows = asyncio.run(users.answer(services, 0, moment.user))
        return Answered(
            rows[0]["release"],
            rows[0]["path"],
            rows[0]["as_of"],
            tuple(Scored(row["item_id"], row["score"], row["decided_by"]) for row in rows if row["rank"]),
        )

    return ask


def _compare(offline: Offline, name: str, moment: Moment, answered: Answered) -> list[Difference]:
    found: list[Difference] = []
    path = f"{name}, new items only" if moment.new_only else name

    def note(item: str, column: str, served: object, expected: object) -> None:
        found.append(Difference(path, moment.user, moment.at, item, column, str(served), str(expected)))

    for column, served, expected in (
        ("release", answered.release, offline.release),
        ("path", answered.path, "known_user"),
        ("as_of", answered.as_of, moment.at),
    ):
        if served != expected:
            note("", column, served, expected)
    if found:
        return found  # items of another release, path or time are bound to differ: once is enough
    rows = offline.table.rows_of(item_keys([item.item_id for item in answered.items]))
    for item in (item for item, row in zip(answered.items, rows) if row < 0):
        note(item.item_id, "item", "recommended", "not in the release's table")
    known = [item for item, row in zip(answered.items, rows) if row >= 0]
    if not known:
        return found
    if moment.new_only:
        for item, had in zip(known, offline.had(moment, rows[rows >= 0])):
            if had:
                note(item.item_id, "item", "recommended as new", "the user had it")
    matrix, decider = offline.features(moment, rows[rows >= 0]), offline.decider(moment)
    explained = any(item.reasons for item in known)
    contributions = offline.contributions(matrix, decider) if explained else [{}] * len(known)
    for item, features, score, shares in zip(known, matrix, offline.scores(matrix, decider), contributions):
        if item.decided_by != decider:
            note(item.item_id, "decided_by", item.decided_by, decider)
        if not _same(item.score, float(score)):
            note(item.item_id, "score", item.score.hex(), float(score).hex())
        for reason in item.reasons:
            value = float(features[RANKING_NAMES.index(reason.feature)])
            if not _same(reason.value, value):
                note(item.item_id, reason.feature, reason.value, value)
            share = shares.get(reason.feature, 0.0)  # shares of nothing are left out
            if not _same(reason.contribution, share):
                column = f"contribution of {reason.feature}"
                note(item.item_id, column, reason.contribution.hex(), share.hex())
    return found


def _same(one: float, other: float) -> bool:
    """Equal to the bit, where every NaN is one value: it says that something is absent."""
    return struct.pack("<d", one) == struct.pack("<d", other) or (np.isnan(one) and np.isnan(other))
