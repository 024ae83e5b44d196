"""What a training run decides before it fits: the protocol, whether repeats are recommended, its settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cli.evaluate import show_metrics
from features.errors import WorkspaceError
from features.workspace import Workspace
from tests.unit.features.shop import CONFIG, START, catalog, event, events_of, to_frame
from training.config import TrainConfig
from training.train import LEAST_TARGETS, training_protocol, up_to_date

DAY = 86_400
ITEMS = catalog(12)


@pytest.mark.parametrize(("users", "name"), [(LEAST_TARGETS // 2, "next_basket"), (LEAST_TARGETS // 2 - 1, "temporal")])
def test_who_comes_back_often_is_learned_by_the_next_basket(users: int, name: str) -> None:
    """Each user of five baskets gives two to train on; where that is too little, weeks are learned from."""
    events = [e for user in range(users) for e in events_of(f"u{user}", ["i0", "i1", "i2", "i0", "i1"], step=6 * DAY)]
    events += events_of("often", ["i3"], START + 20 * DAY)
    protocol = training_protocol(to_frame(events), ITEMS)
    assert protocol.name == name
    assert len(protocol.train)
    assert len(protocol.valid)


def test_where_nothing_is_had_twice_those_who_come_once_teach_too() -> None:
    """All they had in one sitting: the next basket would know none of them."""
    events = [
        event(n, f"i{n}", START + user * DAY + n * 60, f"s{user}", kind="rating", user=f"u{user}")
        for user in range(LEAST_TARGETS // 6 + 1)
        for n in range(9)
    ]
    protocol = training_protocol(to_frame(events), ITEMS, repeats=False)
    assert protocol.name == "next_items"
    assert len(protocol.valid) == len(protocol.test) == LEAST_TARGETS // 6 + 1
    with pytest.raises(WorkspaceError, match="0 baskets with a history"):
        training_protocol(to_frame(events[:9]), ITEMS)
    with pytest.raises(WorkspaceError, match="6 parts of what users had with a history"):
        training_protocol(to_frame(events[:9]), ITEMS, repeats=False)


def test_who_comes_once_is_learned_by_the_week() -> None:
    events = [event(n, f"i{n % 5}", START + n * DAY // 2, f"s{n}", user=f"u{n}") for n in range(80)]
    protocol = training_protocol(to_frame(events), ITEMS)
    assert protocol.name == "temporal"


@pytest.mark.parametrize("days", [0, 1, 13])
def test_too_few_days_to_learn_from_say_so(days: int) -> None:
    events = [event(n, "i0", START + n * DAY, f"s{n}", user=f"u{n}") for n in range(days)]
    with pytest.raises(WorkspaceError, match=r"too little to learn a ranking from.*Ingest more interactions"):
        training_protocol(to_frame(events), ITEMS)


def test_a_workspace_without_a_release_is_not_up_to_date(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shop")
    workspace.write_config(CONFIG)
    assert not up_to_date(workspace)


@pytest.mark.parametrize("wrong", [{"train_sesions": 10}, {"train_sessions": 9}, {"repeats": "sometimes"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate(wrong)


def test_what_a_release_lacks_is_printed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    show_metrics({"cold_start": None, "without": {"cold-start guardrail": "there are 3 people"}})
    assert "no cold-start guardrail: there are 3 people" in capsys.readouterr().out
    show_metrics({"cold_start": None, "without": {}})
    assert not capsys.readouterr().out
