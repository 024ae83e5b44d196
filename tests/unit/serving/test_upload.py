"""A file of items on its way to the service: what is refused is named by its row, all else is taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc
import polars as pl
import pytest

from features.arrivals import CatalogItem
from protos.tandem.v1 import recommender_pb2, types_pb2
from serving.client import CallFailed, Client
from serving.codec import Codec
from serving.config import Limits
from serving.errors import BackfillFailed, InvalidRequest
from serving.upload import BATCH, upload


class CountingService(Client):
    """A connection whose other end checks items as the service does, and remembers their ids."""

    def __init__(self, **limits: int) -> None:
        super().__init__("127.0.0.1:1")
        self.codec = Codec(Limits(**limits), 1_000)
        self.known: dict[str, CatalogItem] = {}
        self.calls = 0
        self.down = False

    def upsert_items(self, items: Sequence[types_pb2.Item]) -> recommender_pb2.UpsertItemsReply:
        self.calls += 1
        if self.down:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "a store does not answer")
        try:
            read = self.codec.catalog_items(recommender_pb2.UpsertItemsRequest(items=items))
        except InvalidRequest as error:
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        reply = recommender_pb2.UpsertItemsReply()
        for item in read:
            if item.attributes.get("price") == "free":
                reply.rejected.append(recommender_pb2.RejectedItem(item_id=item.item_id, reason="price is 'free'"))
                continue
            known = item.item_id in self.known
            reply.unchanged += known and self.known[item.item_id] == item
            reply.updated += known and self.known[item.item_id] != item
            reply.recorded += self.known.get(item.item_id) != item
            self.known[item.item_id] = item
            reply.unknown_attributes.extend(set(item.attributes) - {"price"})
        return reply


def test_rows_are_sent_in_batches_and_sending_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "items.parquet"
    rows = 2 * BATCH + 50
    frame = pl.DataFrame({"item_id": range(rows), "title": [f"Item {n}" for n in range(rows)], "price": [1.5] * rows})
    frame.with_columns(tags=pl.lit(["a", "b"])).write_parquet(file)
    service, stages = CountingService(), list[float]()
    report = upload(service, file, lambda _, done: stages.append(done))
    assert (report.rows, report.recorded, report.unchanged, report.rejected) == (rows, rows, 0, [])
    assert report.unknown_attributes == ["tags"]
    assert service.calls == 3
    assert stages == sorted(stages)
    assert stages[-1] == 1.0
    again = upload(service, file)
    assert (again.recorded, again.unchanged) == (0, rows)


def test_bad_rows_are_named_and_all_others_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    lines = [f"i{n},Item {n}," for n in range(300)]
    lines[10] = "i10,,"
    lines[77] = f"i77,{'x' * 2_001},"
    lines[78] = "i78,Seventy-eight,free"
    lines[205] = "i205,one,two,three"
    lines[250] = ",No id,"
    file.write_text("\n".join(["item_id,title,price", *lines]))
    report = upload(service := CountingService(), file)
    assert report.recorded == len(service.known) == 295
    named = {(row.row, row.item_id): row.reason for row in report.rejected}
    assert list(named) == [(11, "i10"), (78, "i77"), (79, "i78"), (206, ""), (251, "")]
    assert "has 2001 characters; at most 2000" in named[78, "i77"]
    assert "price is 'free'" in named[79, "i78"]
    assert "4 fields, the header names 3" in named[206, ""]


def test_an_id_that_comes_twice_is_taken_once_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    others = "".join(f"i{n},Item {n}\n" for n in range(BATCH))
    file.write_text(f"item_id,title\na,Apple\nb,Bread\na,Apple\n{others}a,Another apple\n")
    report = upload(service := CountingService(), file)
    assert (report.recorded, service.known["a"].title, service.calls) == (BATCH + 2, "Apple", 2)
    assert [(row.row, row.item_id, row.reason) for row in report.rejected] == [
        (3, "a", "row 1 has this item_id as well, exactly"),
        (BATCH + 4, "a", "row 1 has this item_id as well, with other values; keep one row per id"),
    ]


def test_a_service_that_takes_fewer_items_at_once_gets_them_in_parts(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title\n" + "\n".join(f"i{n},Item {n}" for n in range(100)))
    service = CountingService(items=30)
    assert upload(service, file).recorded == len(service.known) == 100


def test_an_outage_ends_the_upload(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title\na,A")
    service = CountingService()
    service.down = True
    with pytest.raises(CallFailed, match="UNAVAILABLE"):
        upload(service, file)


def test_a_file_that_holds_no_items_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("sku,name\na,A")
    with pytest.raises(BackfillFailed, match="no column item_id and no column title"):
        upload(CountingService(), file)
