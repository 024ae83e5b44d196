"""RecordEvents on real data: durable first, and the next Recommend of those users has seen it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

import pytest

from features.errors import StoreUnavailable
from features.events import Recorder
from features.history import History
from features.ports import Event
from protos.tandem.v1 import recommender_pb2
from serving.codec import Codec
from serving.config import Limits
from serving.pipeline import record_events
from serving.services import AHEAD_S, Services
from tests.unit.serving.asking import ask


def bought(user: str, item: str, time: int, event_id: str = "") -> Event:
    return Event(event_id or uuid.uuid4().hex, user, item, "purchase", 1.0, time, f"{user}|{time}")


def rare_item(services: Services) -> str:
    """An item nobody is shown unasked."""
    return services.table.item_ids[int(services.demand.item_users.argmin())]


async def test_new_user_becomes_a_known_one_by_what_he_buys(services: Services) -> None:
    user, item, now = f"new-{uuid.uuid4().hex}", rare_item(services), services.config.data_end + 10
    assert (await ask(services, user)).path == "cold_popular"
    outcome = record_events(services, [bought(user, item, now)])
    assert (outcome.recorded, outcome.duplicates, outcome.unknown_items, outcome.outage) == (1, 0, (), "")
    answer = await ask(services, user, k=50)
    assert answer.path == "known_user"
    assert answer.as_of == now + 1
    if services.release.repeats:
        (repeat,) = [one for one in answer.items if one.item_id == item]
        assert "repeat" in repeat.sources


async def test_event_changes_the_next_answer_of_its_user_and_of_nobody_else(
    services: Services, households: list[str]
) -> None:
    user, other = households[3], households[4]
    item, now = rare_item(services), services.config.data_end + 100
    before, bystander = await ask(services, user, k=100), await ask(services, other, k=100)
    assert item not in {one.item_id for one in before.items}
    record_events(services, [bought(user, item, now + number) for number in range(3)])
    assert (await ask(services, other, k=100)).items == bystander.items
    after = await ask(services, user, k=100)
    assert after.items != before.items
    assert after.as_of == now + 3


async def test_question_about_the_time_before_an_event_does_not_see_it(
    services: Services, households: list[str]
) -> None:
    user, end = households[5], services.config.data_end
    before = await ask(services, user, k=50, at=end + 1)
    record_events(services, [bought(user, rare_item(services), end + 1_000)])
    assert (await ask(services, user, k=50, at=end + 1)).items == before.items
    assert (await ask(services, user, k=50, at=end + 2_000)).items != before.items


async def test_repeated_delivery_is_counted_and_harmless(services: Services, households: list[str]) -> None:
    user, event = households[6], bought(households[6], rare_item(services), services.config.data_end + 5)
    assert record_events(services, [event]).recorded == 1
    once = await ask(services, user)
    again = record_events(services, [event, event])
    assert (again.recorded, again.duplicates) == (0, 2)
    assert (await ask(services, user)).items == once.items


async def test_unknown_items_are_kept_and_named(services: Services) -> None:
    user = f"new-{uuid.uuid4().hex}"
    outcome = record_events(services, [bought(user, "no-such-item", services.config.data_end + 5)])
    assert (outcome.recorded, outcome.unknown_items) == (1, ("no-such-item",))
    answer = await ask(services, user)
    assert answer.path == "known_user"
    assert len(answer.items) == 10
    assert "no-such-item" not in {one.item_id for one in answer.items}


class FullStore:
    """Reads, and refuses to be written."""

    def __init__(self, services: Services) -> None:
        self._store = services.store

    def history(self, user_id: str) -> History:
        return self._store.history(user_id)

    def push(self, _: Mapping[str, History]) -> None:
        raise StoreUnavailable("redis://secret:6379 is full")


async def test_events_survive_an_outage_of_the_store(services: Services) -> None:
    user = f"new-{uuid.uuid4().hex}"
    log = services.recorder._log
    broken = replace(services, recorder=Recorder(log, FullStore(services), {}))
    outcome = record_events(broken, [bought(user, rare_item(services), services.config.data_end + 5)])
    assert outcome.recorded == 1
    assert outcome.outage
    assert (await ask(services, user)).path == "cold_popular"
    services.recorder.push_pending()
    assert (await ask(services, user)).path == "known_user"


# --- on the wall's clock ---------------------------------------------------------------------------------------------


@pytest.fixture
def current(services: Services) -> Services:
    """As with data of today: on the wall's clock, and what was bought is not shown again."""
    return replace(
        services,
        config=replace(services.config, clock="wall"),
        release=replace(services.release, repeats=False),
    )


def record(services: Services, user: str, item: str, timestamp: int = 0) -> None:
    """As RecordEvents does; without a timestamp the service dates the event."""
    request = recommender_pb2.RecordEventsRequest(
        events=[recommender_pb2.Event(user_id=user, item_id=item, timestamp=timestamp)]
    )
    record_events(services, Codec(Limits(), 1_000).events(request, services.recorded_at()))


@pytest.mark.parametrize("ahead", [None, 0, 30, AHEAD_S])
async def test_an_event_recorded_before_a_request_counts_whatever_its_clock_said(
    current: Services, ahead: int | None
) -> None:
    user, item = f"new-{uuid.uuid4().hex}", (await ask(current, "stranger")).items[0].item_id
    while time.time() % 1 > 0.3:  # so that recording and asking fall into one second
        time.sleep(0.01)
    record(current, user, item, 0 if ahead is None else int(time.time()) + ahead)
    answer = await ask(current, user, k=50)
    assert answer.path == "known_user"
    assert item not in {one.item_id for one in answer.items}


@pytest.mark.parametrize("ahead", [None, 30])
async def test_an_answer_is_replayed_by_asking_for_its_time(current: Services, ahead: int | None) -> None:
    user, item = f"new-{uuid.uuid4().hex}", rare_item(current)
    record(current, user, item, 0 if ahead is None else int(time.time()) + ahead)
    answer = await ask(current, user, k=50, explain=True)
    again = await ask(current, user, k=50, explain=True, at=answer.as_of)
    assert (again.path, again.as_of) == (answer.path, answer.as_of) == ("known_user", answer.as_of)
    assert repr(again.items) == repr(answer.items), "to the bit, and a reason may be NaN"
    # Who asks for a time gets what lay strictly before it.
    assert (await ask(current, user, at=int(current.store.history(user).time[-1]))).path == "cold_popular"


async def test_a_false_date_neither_counts_early_nor_moves_the_time(current: Services) -> None:
    user, item = f"new-{uuid.uuid4().hex}", rare_item(current)
    record(current, user, item, int(time.time()) + 20 * 3_600)
    answer = await ask(current, user)
    assert answer.path == "cold_popular"
    assert abs(answer.as_of - time.time()) < 60
    record(current, user, item)
    answer = await ask(current, user)
    assert answer.path == "known_user"
    assert abs(answer.as_of - time.time()) < 60
