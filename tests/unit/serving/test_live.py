"""Items that arrive after training: usable at once, under the same rules, and never with another item's features."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from features.arrivals import CatalogItem, SqliteItemLog
from features.candidates import Source, retrieve
from features.daystates import DayStates
from features.errors import StoreUnavailable
from features.history import History
from features.ports import Event
from features.schema import RANKING_NAMES
from features.statistics import DAY
from features.transforms import Profile, assemble, summarize
from features.workspace import Workspace
from graph.ports import Fact
from models import coldstart
from models.ports import FloatMatrix
from serving.arrivals import Arrivals
from serving.config import ServeConfig
from serving.live import LiveServices, replay
from serving.load import load_services
from serving.messages import Recommendation
from serving.pipeline import record_events, upsert_items
from serving.pipeline.rules import item_proofs, resolve
from serving.services import Services
from tests.unit.serving.asking import ask, ask_tags

MILK = CatalogItem(
    "new-milk",
    "Oat barista drink vanilla, 32 oz",
    "A creamy drink of oats with vanilla for coffee, without milk.",
    {"category": "FLUID MILK PRODUCTS", "department": "GROCERY", "brand": "Brand of tomorrow"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.db"


@pytest.fixture
def live(services: Services, path: Path) -> Iterator[LiveServices]:
    following = LiveServices(services, SqliteItemLog(path))
    yield following
    following.close()


def ids(answer: Recommendation) -> list[str]:
    return [item.item_id for item in answer.items]


def bought(user: str, item: str, time: int) -> Event:
    return Event(uuid.uuid4().hex, user, item, "purchase", 1.0, time, f"{user}|{time}")


def profile_of(services: Services, user: str) -> Profile:
    history = services.store.history(user)
    return summarize(history, services.table, services.now(history, None))


def like(services: Services, row: int, item_id: str, title: str = "") -> CatalogItem:
    """A new item that is described as a known one is, in a few other words."""
    record = services.table.frame.row(row, named=True)
    attributes = {name: value for name, value in services.table.attributes(row).items() if isinstance(value, str)}
    return CatalogItem(item_id, title or f"{record['title']} new recipe", record["text"] or "", attributes)


def favourite(services: Services, user: str) -> int:
    """A row of the user's recent sessions."""
    return int(profile_of(services, user).recent_rows()[0])


def features(services: Services, profile: Profile, rows: Sequence[int]) -> FloatMatrix:
    at = np.array(rows, np.int64)
    return assemble(profile, services.table, at, np.zeros(len(at)))


def same_but_for_rows(one: Services, other: Services, items: Sequence[str]) -> None:
    """These items mean the same in both, wherever their rows are."""
    for item in items:
        here, there = one.table.row_of(item), other.table.row_of(item)
        assert one.table.attributes(here) == other.table.attributes(there)
        assert one.table.titles[here] == other.table.titles[there]
        assert one.catalog.texts[one.catalog.text_of_row[here]] == other.catalog.texts[other.catalog.text_of_row[there]]
        assert one.label_of(here) == other.label_of(there)
        for mask in ("contains", "may_contain", "unknown"):
            assert getattr(one.properties, mask)[here] == getattr(other.properties, mask)[there]


# --- found -----------------------------------------------------------------------------------------------------------


def test_new_item_is_proposed_to_whoever_buys_things_like_it(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    user = households[2]
    row = favourite(services, user)
    assert live.upsert([like(services, row, "new-like")]).recorded == 1
    now = live.services
    profile = profile_of(now, user)
    similar = now.similar_rows(profile.recent_rows(), now.candidates // 5)
    new = now.table.row_of("new-like")
    assert new in similar
    found = retrieve(profile, now.table, now.candidates, similar, now.release.repeats)
    (at,) = np.flatnonzero(found.rows == new)
    assert Source(int(found.sources[at])) == Source.SIMILAR


async def test_new_item_is_recommended(services: Services, live: LiveServices, households: list[str]) -> None:
    user = households[2]
    live.upsert([like(services, favourite(services, user), "new-shown")])
    answer = await ask(live.services, user, k=100, require=())
    everything = await ask(replace(live.services, candidates=40), user, k=100)
    shown = [item for item in (*answer.items, *everything.items) if item.item_id == "new-shown"]
    assert shown
    for item in shown:
        assert item.decided_by == "ranker"
        assert "similar" in item.sources
        assert item.title.endswith("new recipe")


def test_new_item_is_found_by_words_that_describe_it(live: LiveServices) -> None:
    live.upsert([CatalogItem("new-odd", "Kaleidoscope stargazing lantern", "A lantern for watching stars at night.")])
    now = live.services
    described = coldstart.describe(now.catalog, now.embedder, "stargazing with a lantern at night")
    found = coldstart.candidates(now.catalog, now.demand, described, None, [])
    (at,) = np.flatnonzero(found.rows == now.table.row_of("new-odd"))
    assert found.by_index[at]


def test_of_two_new_items_each_leads_to_the_other_in_whatever_order_they_came(live: LiveServices) -> None:
    one = CatalogItem("lantern-1", "Kaleidoscope stargazing lantern", "A lantern for watching stars at night.")
    other = CatalogItem("lantern-2", "Stargazing lantern kaleidoscope blue", "A lantern for watching stars at night.")
    live.upsert([one])
    live.upsert([other])
    first, second = (np.array([live.services.table.row_of(name)]) for name in ("lantern-1", "lantern-2"))
    assert second[0] in live.services.similar_rows(first, 40)
    assert first[0] in live.services.similar_rows(second, 40)


def test_what_nobody_likes_does_not_push_out_what_is_well_bought(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    rows = profile_of(services, households[2]).recent_rows()
    titles = [services.table.titles[row] for row in rows[:3].tolist()]
    live.upsert([CatalogItem(f"flood-{n}", f"{titles[n % 3]} {'nice ' * (n // 3 + 1)}") for n in range(60)])
    before, after = services.similar_rows(rows, 40), live.services.similar_rows(rows, 40)
    assert (after >= len(services.table)).tolist() == [True] * 5 + [False] * 40
    assert after[5:].tolist() == before.tolist()


# --- scored ----------------------------------------------------------------------------------------------------------


def test_new_item_has_no_statistics_and_only_its_own_groups(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    user = households[2]
    row = favourite(services, user)
    live.upsert([like(services, row, "new-scored"), CatalogItem("new-bare", "Bare thing")])
    now, profile = live.services, profile_of(live.services, user)
    twin, bare = now.table.row_of("new-scored"), now.table.row_of("new-bare")
    matrix = features(now, profile, [row, twin, bare])
    statistics = [at for at, name in enumerate(RANKING_NAMES) if name.startswith("i_")]
    assert statistics
    assert np.isnan(matrix[1:, statistics]).all()
    assert (now.table.groups[twin] == services.table.groups[row]).all()
    assert (now.table.groups[bare] == -1).all()
    assert (now.table.neighbours[[twin, bare]] == -1).all()
    sessions = RANKING_NAMES.index("ui_sessions")
    assert matrix[0, sessions] > 0, "the user has the item it is like"
    assert matrix[1, sessions] == matrix[2, sessions] == 0, "but not the new one"
    assert (now.demand.item_users[[twin, bare]] == 0).all()


def test_every_other_item_keeps_its_features_to_the_bit(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    live.upsert([like(services, 0, "aaa-first"), MILK, like(services, 5, "zzz-last")])
    now, n = live.services, len(services.table)
    assert now.table.item_ids == (*services.table.item_ids, "aaa-first", "new-milk", "zzz-last")
    assert (now.table.keys[:n] == services.table.keys).all()
    assert now.table.rows_of(now.table.keys).tolist() == list(range(n + 3))
    assert now.demand.item_users[:n].tobytes() == services.demand.item_users.tobytes()
    rows = list(range(0, n, 7))
    for user in households[:3]:
        one, other = features(services, profile_of(services, user), rows), features(now, profile_of(now, user), rows)
        assert one.tobytes() == other.tobytes()
    same_but_for_rows(services, now, services.table.item_ids[:200])


async def test_purchase_of_a_new_item_is_a_repeat_of_its_user(live: LiveServices) -> None:
    user, now = f"new-{uuid.uuid4().hex}", live.services.config.data_end + 50
    early = record_events(live.services, [bought(user, MILK.item_id, now)])
    assert early.unknown_items == (MILK.item_id,), "bought before the catalog knew it"
    assert MILK.item_id not in ids(await ask(live.services, user, k=100))
    live.upsert([MILK])
    assert record_events(live.services, [bought(user, MILK.item_id, now + 86_400)]).unknown_items == ()
    answer = await ask(live.services, user, k=100)
    (item,) = [one for one in answer.items if one.item_id == MILK.item_id]
    assert ("repeat" in item.sources) == live.services.release.repeats
    sessions = features(live.services, profile_of(live.services, user), [live.services.table.row_of(MILK.item_id)])
    assert sessions[0, RANKING_NAMES.index("ui_sessions")] == 2, "both purchases count, the early one too"


async def test_words_find_a_new_item_in_a_release_without_a_guardrail(live: LiveServices) -> None:
    """A shop too small to train one: nobody bought the item yet, so what is popular never shows it."""
    gnome = CatalogItem("new-gnome", "Garden gnome", "A gnome of clay for the garden.", {})
    live.upsert([gnome])
    bare = replace(live.services, cold_judge=None)
    for profile in ("garden gnome", "no clowns, two adults, garden gnome"):
        assert ids(await ask(bare, profile=profile, k=3))[0] == "new-gnome"
    assert "new-gnome" not in ids(await ask(bare, profile="garden gnome", exclude_items=("new-gnome",)))


# --- under the same rules --------------------------------------------------------------------------------------------


def test_rules_hold_for_new_items_as_for_trained_ones(services: Services, live: LiveServices) -> None:
    cheese = CatalogItem("new-cheese", "Aged cheddar", "", {"category": "CHEESE"})
    vegan = CatalogItem("new-vegan", "Vegan mystery bites", "", {})
    live.upsert([cheese, vegan])
    now = live.services
    rows = np.array([now.table.row_of("new-cheese"), now.table.row_of("new-vegan")])
    assert now.properties.has(rows, "dairy").tolist() == [True, False]
    assert not resolve(now, ["dairy"], [], []).allowed(now, rows).any(), "contents nobody knows are forbidden, too"
    assert resolve(now, ["cheese"], [], []).allowed(now, rows).tolist() == [False, True]
    assert resolve(now, [], ["dairy"], []).allowed(now, rows).tolist() == [True, False]
    (proof,) = item_proofs(now, int(rows[0]), ["dairy"])
    assert proof.fact == Fact("contains", ("new-cheese", "dairy"))
    assert resolve(now, [], [], ["new-cheese", "no-such-item"]).unknown_items == ("no-such-item",)
    assert resolve(services, [], [], ["new-cheese"]).unknown_items == ("new-cheese",)


def test_an_arrived_copy_of_a_trained_item_reads_like_it(services: Services, live: LiveServices) -> None:
    rows = np.arange(0, len(services.table), max(1, len(services.table) // 150))
    copies = []
    for row in rows.tolist():
        copy = like(services, row, f"copy-{row}", services.table.titles[row])
        copies.append(copy)
    for start in range(0, len(copies), 40):
        live.upsert(copies[start : start + 40])
    now = live.services
    for row in rows.tolist():
        copy_row = now.table.row_of(f"copy-{row}")
        assert now.catalog.text_of_row[copy_row] == services.catalog.text_of_row[row]
        assert now.catalog.label_of_row[copy_row] == services.catalog.label_of_row[row]
        assert (now.table.groups[copy_row] == services.table.groups[row]).all()
        for codes in now.catalog.attributes.values():
            assert codes[copy_row] == codes[row]
        for mask in ("contains", "may_contain", "unknown"):
            assert getattr(now.properties, mask)[copy_row] == getattr(services.properties, mask)[row]
    assert len(now.catalog.texts) == len(services.catalog.texts), "texts that are known are not embedded again"


async def test_no_answer_for_a_vegan_holds_new_cheese(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    user = households[2]
    live.upsert([replace_attributes(like(services, favourite(services, user), "new-forbidden"), category="CHEESE")])
    assert "new-forbidden" not in ids(await ask(live.services, user, k=100, avoid=("dairy",)))
    assert "new-forbidden" not in ids(await ask(live.services, user, k=100, profile="vegan"))


def replace_attributes(item: CatalogItem, **attributes: str) -> CatalogItem:
    return replace(item, attributes=attributes)


async def test_tags_vote_with_new_items_and_still_answer(live: LiveServices) -> None:
    live.upsert([CatalogItem(f"zorb-{n}", f"Zorbified snorkel {n} ct", "", {"category": "CHEESE"}) for n in range(3)])
    answer = await ask_tags(live.services, "Zorbified snorkel 9 ct")
    assert "CHEESE" in {tag.tag for tag in answer.tags}


# --- changed, unchanged, refused -------------------------------------------------------------------------------------


def test_sent_again_is_unchanged_and_writes_nothing(live: LiveServices, path: Path) -> None:
    assert live.upsert([MILK]).recorded == 1
    before = live.services
    again = live.upsert([MILK, replace(MILK, title=f" {MILK.title} ")])
    assert (again.recorded, again.updated, again.unchanged) == (0, 0, 2)
    assert live.services is before
    log = SqliteItemLog(path)
    assert log.newest() == 1
    log.close()


def test_trained_item_sent_as_it_is_is_unchanged(services: Services, live: LiveServices) -> None:
    same = like(services, 3, services.table.item_ids[3], services.table.titles[3])
    assert live.upsert([same]).unchanged == 1
    assert live.services is services


def test_changed_item_is_read_anew_where_it_stands(services: Services, live: LiveServices) -> None:
    row = int(services.demand.item_users.argmax())
    item_id = services.table.item_ids[row]
    changed = CatalogItem(item_id, "Smoked gouda wheel", "A wheel of smoked cheese from Gouda.", {"category": "CHEESE"})
    assert live.upsert([changed]).updated == 1
    now = live.services
    assert now.table.row_of(item_id) == row
    assert len(now.table) == len(services.table)
    assert now.table.titles[row] == "Smoked gouda wheel"
    assert now.label_of(row) == "CHEESE"
    assert now.properties.has(np.array([row]), "dairy")[0]
    assert row in now.demand.best_in_label[now.catalog.labels.index("CHEESE")]
    assert now.demand.item_users[row] == services.demand.item_users[row]
    at = services.config.data_end
    assert now.table.statistics(at)[row].tobytes() == services.table.statistics(at)[row].tobytes()
    assert (
        not services.properties.has(np.array([row]), "dairy")[0] or services.table.titles[row] != now.table.titles[row]
    )
    same_but_for_rows(services, now, [one for one in services.table.item_ids[:300] if one != item_id])
    assert not now.arrivals.near, "it is no new item"


def test_unusable_items_are_named_and_the_others_taken(services: Services, live: LiveServices) -> None:
    priced = replace(
        services,
        table=replace(services.table, frame=services.table.frame.with_columns(price=np.zeros(len(services.table)))),
    )
    following = LiveServices(priced, live._log)
    outcome = following.upsert(
        [
            CatalogItem("dear", "Dear thing", "", {"price": "very", "shade": "dark"}),
            CatalogItem("cheap", "Cheap thing", "", {"price": "1.5", "shine": "bright"}),
        ]
    )
    assert outcome.recorded == 1
    ((refused, reason),) = outcome.rejected
    assert refused == "dear"
    assert "price is 'very'" in reason
    assert outcome.unknown_attributes == ("shade", "shine")
    assert following.services.table.row_of("dear") == -1
    assert following.services.table.frame.row(following.services.table.row_of("cheap"), named=True)["price"] == 1.5


# --- no request sums up a day ---------------------------------------------------------------------------------------


def unasked(services: Services, clock: Literal["data", "wall"] = "data") -> Services:
    """With a table nobody has asked anything yet, and by that clock."""
    table = replace(services.table, _days=DayStates(), _place_days=DayStates())
    return replace(services, table=table, config=replace(services.config, clock=clock))


def summed_up(services: Services, later_s: int = 0) -> bool:
    """Whether requests of the services' day, or of a later one, find what they share."""
    day = (services.now(History.empty(), None) + later_s) // DAY
    return day in services.table._days and day in services.table._place_days


def test_the_first_request_on_items_that_came_finds_its_day_summed_up(services: Services, live: LiveServices) -> None:
    assert not summed_up(unasked(services))
    live.upsert([MILK])
    assert summed_up(live.services)
    live.upsert([replace(MILK, title="Renamed oat drink"), like(services, 4, "new-today")])
    assert summed_up(live.services)


def test_a_start_that_replays_items_has_its_day_summed_up(
    services: Services, trained_workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(trained_workspace.root, copy.root)
    log = SqliteItemLog(copy.arrivals)
    log.append([MILK])
    log.close()
    started = load_services(copy, ServeConfig(llm=None), embedder=services.embedder)
    assert started.table.row_of(MILK.item_id) == len(services.table)
    assert summed_up(started)


def test_a_day_is_summed_up_before_it_begins(services: Services, path: Path) -> None:
    """By the wall's clock: that of the data stands still."""
    walking = LiveServices(unasked(services, "wall"), SqliteItemLog(path))
    standing = LiveServices(unasked(services), SqliteItemLog(path))
    for each in (walking, standing):
        each.follow(every_s=0.02, ahead_s=DAY)
    deadline = time.monotonic() + 20
    while not (summed_up(walking.services) and summed_up(walking.services, DAY) and summed_up(standing.services)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    assert not summed_up(standing.services, DAY)
    for each in (walking, standing):
        each.close()


# --- durable and whole -----------------------------------------------------------------------------------------------


def near_of(services: Services) -> dict[str, set[str]]:
    return {
        services.catalog.texts[text]: {services.table.item_ids[row] for _, row in kept}
        for text, kept in services.arrivals.near.items()
    }


def test_a_start_replays_what_the_process_before_it_saw(services: Services, live: LiveServices, path: Path) -> None:
    live.upsert([MILK, like(services, 10, "new-10")])
    live.upsert([like(services, 20, "new-20"), replace(MILK, title="Renamed oat drink")])
    live.upsert([like(services, 30, services.table.item_ids[40])])
    log = SqliteItemLog(path)
    again, now = replay(services, log), live.services
    log.close()
    assert again.table.item_ids == now.table.item_ids
    assert again.table.frame.equals(now.table.frame)
    assert again.arrivals.seq == now.arrivals.seq == 5
    same_but_for_rows(again, now, again.table.item_ids[-200:])
    vectors = [one.catalog.vectors[one.catalog.text_of_row] for one in (again, now)]
    assert vectors[0].tobytes() == vectors[1].tobytes(), "vectors come from the log"
    for name in ("new-10", "new-20", MILK.item_id):
        assert any(name in found for found in near_of(again).values())


def test_an_older_word_than_the_ingests_only_adds(services: Services, live: LiveServices, path: Path) -> None:
    known = services.table.item_ids[40]
    live.upsert([MILK, like(services, 30, known)])
    log = SqliteItemLog(path)
    again = replay(services, log, ingested_at=time.time() + 60)
    log.close()
    assert again.table.row_of(MILK.item_id) == len(services.table)
    assert again.table.titles[40] == services.table.titles[40]


async def test_a_request_under_way_keeps_what_it_began_with(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    held = live.services
    before = await ask(held, households[0], k=50, explain=True)
    live.upsert([MILK, like(services, favourite(services, households[0]), "new-beside")])
    assert live.services is not held
    assert held is services
    after = await ask(held, households[0], k=50, explain=True)
    # By their text: a reason's value may be NaN, which equals nothing.
    assert repr(after.items) == repr(before.items)
    assert held.table.row_of(MILK.item_id) == -1


async def test_requests_and_uploads_at_once_disturb_nobody(
    services: Services, live: LiveServices, households: list[str]
) -> None:
    async def upload(writer: int) -> None:
        for number in range(4):
            await upsert_items(live, [like(services, writer * 9 + number, f"at-once-{writer}-{number}")])

    async def request(user: str) -> None:
        for _ in range(12):
            now = live.services
            answer = await ask(now, user, k=30)
            assert len(set(ids(answer))) == 30
            assert not answer.header.degraded
            assert all(now.table.row_of(item) >= 0 for item in ids(answer))
            await asyncio.sleep(0)

    await asyncio.gather(*(upload(n) for n in range(3)), *(request(user) for user in households[:4]))
    assert {f"at-once-{w}-{n}" for w in range(3) for n in range(4)} <= set(live.services.table.item_ids)


async def test_the_event_loop_goes_on_while_texts_are_embedded(services: Services, path: Path) -> None:
    class Slow:
        model_id, dimension = services.embedder.model_id, services.embedder.dimension

        def embed(self, texts: Sequence[str]) -> FloatMatrix:
            time.sleep(1.0)
            return services.embedder.embed(texts)

    live = LiveServices(replace(services, embedder=Slow()), SqliteItemLog(path))
    uploading = asyncio.create_task(upsert_items(live, [MILK]))
    await asyncio.sleep(0.1)
    started = time.perf_counter()
    assert (await ask(live.services, "")).items
    assert time.perf_counter() - started < 0.9
    assert not uploading.done()
    assert (await uploading).recorded == 1
    live.close()


def test_another_process_shows_an_item_soon_after_it_was_written(services: Services, live: LiveServices) -> None:
    other = LiveServices(services, SqliteItemLog(live._log._file._path))
    other.follow(every_s=0.05)
    live.upsert([MILK])
    deadline = time.monotonic() + 20
    while other.services.table.row_of(MILK.item_id) < 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    same_but_for_rows(live.services, other.services, [MILK.item_id])
    other.close()
    assert not any(thread.name == "items" and thread.is_alive() for thread in threading.enumerate())


def test_two_processes_that_write_see_each_others_items(services: Services, live: LiveServices, path: Path) -> None:
    other = LiveServices(services, SqliteItemLog(path))
    live.upsert([MILK])
    assert other.upsert([MILK]).unchanged == 1, "written by the other process a moment ago"
    other.upsert([like(services, 4, "from-the-other")])
    assert live.catch_up()
    assert not live.catch_up()
    assert live.services.table.item_ids == other.services.table.item_ids
    other.close()


def test_a_log_that_fails_changes_nothing_and_following_survives_it(services: Services, live: LiveServices) -> None:
    class Failing(SqliteItemLog):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.down = True

        def newest(self) -> int:
            if self.down:
                raise StoreUnavailable("the item log is gone")
            return super().newest()

    log = Failing(live._log._file._path)
    other = LiveServices(services, log)
    with pytest.raises(StoreUnavailable):
        other.upsert([MILK])
    assert other.services is services
    other.follow(every_s=0.01)
    time.sleep(0.1)
    log.down = False
    live.upsert([MILK])
    deadline = time.monotonic() + 20
    while other.services.table.row_of(MILK.item_id) < 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other.close()


def test_rows_of_arrays_never_shift(live: LiveServices) -> None:
    """Whatever is kept by row has one entry for each item of the table, in its order."""
    live.upsert([MILK, CatalogItem("b", "Bread roll"), CatalogItem("a", "Apple pie")])
    now = live.services
    n = len(now.table)
    lengths: dict[str, npt.NDArray[np.generic]] = {
        "keys": now.table.keys,
        "groups": now.table.groups,
        "neighbours": now.table.neighbours,
        "similarity": now.table.similarity,
        "text_of_row": now.catalog.text_of_row,
        "label_of_row": now.catalog.label_of_row,
        "item_users": now.demand.item_users,
        "item_recent": now.demand.item_recent,
        "reorder": now.demand.reorder,
        "contains": now.properties.contains,
        "may_contain": now.properties.may_contain,
        "unknown": now.properties.unknown,
        **now.catalog.attributes,
    }
    assert {name: len(values) for name, values in lengths.items()} == dict.fromkeys(lengths, n)
    assert len(now.table.frame) == len(now.table.item_ids) == len(now.table.titles) == n
    assert now.catalog.vectors.shape[0] == len(now.catalog.texts)
    for row in range(n - 3, n):
        text = int(now.catalog.text_of_row[row])
        assert row in now.catalog.rows(text)
        found, similarity = now.catalog.index.search(now.catalog.vectors[text][None, :], 1)
        assert (int(found[0, 0]), round(float(similarity[0, 0]), 4)) == (text, 1.0)


def test_an_arrived_item_that_nobody_bought_keeps_its_way_to_people_after_a_training(
    services: Services, live: LiveServices, path: Path
) -> None:
    row = int(services.demand.item_users.argmax())
    live.upsert([like(services, row, "slow-seller"), like(services, row, "best-seller")])
    bought_since = live.services.demand.item_users.copy()
    bought_since[live.services.table.row_of("best-seller")] = 9.0
    trained = replace(live.services, arrivals=Arrivals(), demand=replace(live.services.demand, item_users=bought_since))
    log = SqliteItemLog(path)
    again = replay(trained, log)
    log.close()
    assert again.table is trained.table, "nothing is new to the release"
    arrived = {item for found in near_of(again).values() for item in found}
    assert arrived == {"slow-seller"}
    assert again.table.row_of("slow-seller") in again.similar_rows(np.array([row]), 40)
