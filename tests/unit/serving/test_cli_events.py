"""``tandem events add``: a file of events recorded by a real replica, and what it says of rows that are not."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import polars as pl
import pytest

from cli import main
from features.workspace import Workspace
from protos.tandem.v1 import recommender_pb2
from serving.client import CallFailed, Client
from serving.config import Limits, ServeConfig
from serving.eventupload import BATCH, upload_events
from tests.unit.serving.replica import served
from training.datasets.errors import InvalidTable, SourceUnreadable
from training.datasets.events import read_events

Tandem = Callable[..., tuple[int, str, str]]
HEADER = "event_id,user_id,item_id,timestamp,event,value,price\n"


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("cli-events") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return copy


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    """Of a replica that takes fewer events at once than the command sends."""
    with served(root, ServeConfig(llm=None, limits=Limits(events=200))) as (client, _):
        yield client


@pytest.fixture
def tandem(
    root: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Tandem]:
    """``tandem events add`` of a CSV with this text, in this process: exit code, output, errors."""
    before = dict(os.environ)

    def run(text: str, *options: str) -> tuple[int, str, str]:
        file = tmp_path / "events.csv"
        file.write_text(text)
        words = ["--input", str(file), "--workspace", str(root), "--target", client.target, *options]
        monkeypatch.setattr(sys, "argv", ["tandem", "events", "add", *words])
        code = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield run
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def item_id(root: Path) -> str:
    return str(pl.read_parquet(Workspace(root).items)["item_id"][0])


def test_a_file_is_recorded_once_however_often_it_is_sent(tandem: Tandem, client: Client, item_id: str) -> None:
    rows = "".join(f"e{n},file-user,{item_id},2024-01-31T09:{n % 60:02}:00Z,view,1,\n" for n in range(300))
    code, out, _ = tandem(HEADER + rows)
    assert (code, out) == (0, "300 rows: 300 recorded, 0 duplicates, 0 refused\n")
    request = recommender_pb2.RecommendRequest(user_id="file-user", k=1)
    assert client.recommend(request).path == "known_user"
    code, out, _ = tandem(HEADER + rows + rows.splitlines()[0] + "\n")
    assert (code, out) == (0, "301 rows: 0 recorded, 301 duplicates, 0 refused\n")


def test_refused_rows_are_named_and_all_others_are_recorded(tandem: Tandem, item_id: str) -> None:
    code, out, err = tandem(
        f"{HEADER}b1,u,{item_id},2024-01-31T09:00:00Z,purchase,2,3.5\n"
        f"b2,,{item_id},2024-01-31T09:00:00Z,purchase,1,\n"
        f"b3,u,{item_id},2096-01-31T09:00:00Z,purchase,1,\n"
        f"b4,{'x' * 300},{item_id},2024-01-31T09:00:00Z,purchase,1,\n"
        f"b5,u,{item_id},2024-01-31T09:00:00Z,rating,3e9,\n"
        "b6,u,no-such-item,2024-01-31T09:00:00Z,purchase,1,\n",
        "--json",
    )
    report = json.loads(out)
    assert (code, report["rows"], report["recorded"], report["unknown_items"]) == (1, 6, 2, ["no-such-item"])
    assert [(row["row"], row["reason"].split(";")[0]) for row in report["rejected"]] == [
        (2, "user_id is missing"),
        (3, "timestamp in the future"),
        (4, "user_id has 300 characters"),
        (5, "value is 3000000000.0"),
    ]
    assert err == ""


def test_columns_and_errors_are_those_of_ingest(tandem: Tandem, item_id: str) -> None:
    code, _, err = tandem("userId,movieId,timestamp\nu,a,2024-01-31\n")
    assert code == 1
    assert "Rename 'userId' to 'user_id'" in err
    assert "Rename 'movieId' to 'item_id'" in err
    code, out, err = tandem(
        f"user_id,item_id,timestamp,stars,row\nv,{item_id},31.01.2024,5,x\n", "--timestamp-format", "%d.%m.%Y"
    )
    assert (code, out) == (0, "1 rows: 1 recorded, 0 duplicates, 0 refused\n")
    assert "columns that nothing uses" in err
    assert "column 'stars' seems to hold ratings and is not used" in err


class Failing(Client):
    """A connection that breaks after its first call."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.calls = 0

    def record_events(self, events: Sequence[recommender_pb2.Event]) -> recommender_pb2.RecordEventsReply:
        self.calls += 1
        if self.calls > 1:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "a store does not answer")
        return recommender_pb2.RecordEventsReply(recorded=len(events))


def test_an_outage_midway_says_what_was_recorded(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("user_id,item_id,timestamp\n" + "u,a,2024-01-31\n" * (BATCH + 1))
    with pytest.raises(CallFailed, match=rf"does not answer. Events up to row {BATCH} were sent and are kept"):
        upload_events(Failing(), read_events(file).events)


def test_a_file_that_holds_no_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="does not exist"):
        read_events(tmp_path / "absent.csv")
    file = tmp_path / "events.csv"
    file.write_text("sku,name\na,A\n")
    with pytest.raises(InvalidTable, match="interactions need a column 'user_id'"):
        read_events(file)
