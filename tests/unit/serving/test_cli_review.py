"""``tandem review`` as a person and a script meet it: on the running service, and on files of a batch job."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pytest

from cli import main
from features.gold import GOLD
from features.workspace import Workspace
from serving.batch import TAGS, tag_rows
from serving.config import ServeConfig
from serving.errors import BackfillFailed
from serving.messages import Header, ProposedTag, Tagging
from serving.review.cases import Span, Wanted
from serving.review.config import ReviewConfig
from serving.review.desk import ReviewDesk
from serving.review.importing import import_tags
from serving.services import Services
from tests.unit.serving.replica import served
from tests.unit.serving.review.making import proposal


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Tandem(Protocol):
    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Tandem]:
    """``tandem review`` with these arguments, in this process."""
    before = dict(os.environ)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tandem", "review", *arguments])
        code = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield run
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("cli-review") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return copy


@pytest.fixture(scope="module")
def desk(root: Path) -> Iterator[ReviewDesk]:
    """The queue as another process has it open."""
    found = ReviewDesk(Workspace(root).review, ReviewConfig())
    yield found
    found.close()


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[tuple[str, ...]]:
    """Options that name a running service."""
    with served(root, ServeConfig(llm=None)) as (client, _):
        yield ("--workspace", str(root), "--target", client.target)


def opened(desk: ReviewDesk, *ids: str, **fields: Any) -> list[str]:
    desk.queue.put([proposal(name, **fields) for name in ids])
    return [str(case.id) for name in ids for case in desk.queue.page(Wanted(item_id=name), 10).cases]


# --- on the running service ------------------------------------------------------------------------------------------


def test_person_claims_decides_and_exports_gold(
    tandem: Tandem, desk: ReviewDesk, service: tuple[str, ...], tmp_path: Path
) -> None:
    first, second, third = opened(desk, "cli-1", "cli-2", "cli-3", group="CLI")
    listed = tandem("list", "--group", "CLI", "--oldest", "--json", *service).json
    assert [case["case_id"] for case in listed["cases"]] == [first, second, third]
    held = tandem("claim", "--count", "2", "--group", "CLI", "--oldest", "--person", "anna", "--json", *service).json
    assert [case["case_id"] for case in held["cases"]] == [first, second]
    taken = tandem("accept", first, "--person", "ben", *service)
    assert (taken.code, taken.out) == (1, "")
    assert f"case {first} is held by anna" in taken.err
    assert tandem("accept", first, "--person", "anna", *service).out == f"case {first}: 'CHEESES' for cli-1: accept\n"
    assert tandem("release", second, "--person", "anna", *service).out == "1 of 1 cases released\n"
    tandem("reject", second, "--person", "ben", "--reason", "a drink", *service)
    fixed = tandem("correct", third, "FLUID MILK PRODUCTS", "--person", "ben", "--json", *service)
    assert fixed.json["resolved"][0]["case"]["history"][0]["correction"] == "FLUID MILK PRODUCTS"
    output = tmp_path / "gold.parquet"
    assert "labels of people" in tandem("export", str(output), "--workspace", service[1]).out
    said = pl.read_parquet(output)
    assert said.schema == GOLD
    assert said.filter(pl.col("item_id").str.starts_with("cli-")).select(
        "item_id", "label", "right", "person"
    ).rows() == [
        ("cli-1", "CHEESES", True, "anna"),
        ("cli-2", "CHEESES", False, "ben"),
        ("cli-3", "CHEESES", False, "ben"),
        ("cli-3", "FLUID MILK PRODUCTS", True, "ben"),
    ]


def test_tables_show_words_evidence_and_who_decided(tandem: Tandem, desk: ReviewDesk, service: tuple[str, ...]) -> None:
    number, _ = opened(desk, "shown", "shown-too", group="SHOWN")
    tandem("accept", number, "--person", "anna", *service)
    shown = tandem("list", "--group", "SHOWN", "--state", "all", "--limit", "1", *service).out
    assert "1 of 2 cases" in shown
    assert "more: --page" in shown
    decided = tandem("list", "--group", "SHOWN", "--verdict", "accept", *service).out
    assert "1 of 1 cases" in decided
    assert "Cheddar" in decided
    assert "anna" in decided


def test_audit_shows_the_switched_group_and_reset_gives_it_back(
    tandem: Tandem, desk: ReviewDesk, service: tuple[str, ...]
) -> None:
    current = tandem("audit", "--json", *service).json
    assert current["groups"] == []
    release = (Path(service[1]) / "releases" / "current").read_text().strip()
    ids = [f"cli-audit-{n}" for n in range(5)]
    for name in ids:
        opened(desk, name, kind="audit", group="AUDITED", unit=name, release=release)
    numbers = [str(case.id) for case in desk.queue.page(Wanted(group="AUDITED"), 10).cases]
    rejected = tandem("reject", *numbers, "--person", "anna", *service)
    assert "group AUDITED goes to review from now on" in rejected.out
    shown = tandem("audit", *service).out
    assert "broken" in shown
    assert "AUDITED goes to review since" in shown
    (group,) = tandem("audit", "--json", *service).json["groups"]
    assert (group["audited"], group["wrong"], group["precision"]) == (5, 5, 0.0)
    again = tandem("reset", "AUDITED", "--person", "anna", "--reason", "retrained", *service)
    assert again.out == "AUDITED may accept again\n"
    unknown = tandem("reset", "AUDITED", "--person", "anna", "--reason", "retrained", *service)
    assert unknown.code == 1
    assert "is not switched to review" in unknown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--state", "opne"), "there is no state 'opne'; choose of open, claimed, resolved"),
        (("list", "--kind", "x"), "there is no kind 'x'; choose of review, audit"),
        (("claim", "1"), "Missing option '--person'"),
        (("accept", "0", "--person", "a"), "greater than or equal to 1"),
        (("export", "gold.xls"), "there is no format '.xls'"),
    ],
)
def test_wrong_usage_names_the_remedy(tandem: Tandem, arguments: tuple[str, ...], message: str) -> None:
    done = tandem(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


# --- files of a batch job --------------------------------------------------------------------------------------------


@pytest.fixture
def importing(services: Services, tmp_path: Path) -> Iterator[Services]:
    """The service's parts with a queue of their own that audits every accepted tag."""
    own = ReviewDesk(tmp_path / "review.db", ReviewConfig(audit_rate=1.0))
    yield replace(services, review=own)
    own.close()


def results(path: Path, item_id: str, *tags: ProposedTag) -> Path:
    """A file as the backfill writes it."""
    rows = tag_rows(0, item_id, Tagging(Header("", "r-batch"), tags, abstained=not tags), with_llm=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=TAGS).write_parquet(path)
    return path


UNSURE = ProposedTag("CHEESES", 0.5, "review", ("name",), "guardrail", ("title", 0, 4), evidence_text="Brie")
ACCEPTED = ProposedTag("FLUID MILK PRODUCTS", 0.99, "accept", ("neighbours",), "guardrail")
REJECTED = ProposedTag("BEEF", 0.01, "reject", ("name",), "guardrail")


def test_batch_results_become_cases_once(importing: Services, tmp_path: Path) -> None:
    known = importing.table.item_ids[0]
    results(tmp_path / "tagged" / "part-00000.parquet", known, UNSURE, ACCEPTED, REJECTED)
    results(tmp_path / "tagged" / "part-00001.parquet", "nobody", UNSURE)
    results(tmp_path / "tagged" / "part-00002.parquet", "nothing")
    done = import_tags(importing, [tmp_path / "tagged"])
    assert (done.tags, done.review, done.audit, done.opened, done.unknown) == (4, 1, 1, 2, 1)
    assert import_tags(importing, [tmp_path / "tagged"]).opened == 0
    assert importing.review is not None
    cases = {case.proposal.tag: case.proposal for case in importing.review.queue.page(Wanted(), 10).cases}
    assert (cases["CHEESES"].kind, cases["FLUID MILK PRODUCTS"].kind) == ("review", "audit")
    assert cases["CHEESES"].item.title == importing.table.titles[0]
    assert (cases["CHEESES"].release, cases["CHEESES"].evidence) == ("r-batch", Span("title", 0, 4, "Brie"))


def test_words_of_new_products_come_from_the_file_that_was_tagged(importing: Services, tmp_path: Path) -> None:
    source = results(tmp_path / "tags.parquet", "brand-new", UNSURE)
    (tmp_path / "new.csv").write_text("item_id,title,text,brand\nbrand-new,Brie wheel,soft,Farm\n")
    assert import_tags(importing, [source], tmp_path / "new.csv").opened == 1
    assert importing.review is not None
    (case,) = importing.review.queue.page(Wanted(), 10).cases
    assert (case.proposal.item.title, dict(case.proposal.item.attributes)) == ("Brie wheel", {"brand": "Farm"})
    assert case.proposal.unit == "text Brie wheel"


def test_file_that_holds_no_tags_is_refused_with_the_remedy(importing: Services, tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(BackfillFailed, match="has no column tag; give results of tandem backfill tags"):
        import_tags(importing, [tmp_path / "other.parquet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackfillFailed, match=r"holds no part-\*\.parquet"):
        import_tags(importing, [tmp_path / "empty"])
    with pytest.raises(BackfillFailed, match="cannot be read"):
        import_tags(importing, [tmp_path / "missing.parquet"])
