"""Answers as a person sees them: every column says something, under the catalog's own name."""

from __future__ import annotations

import pytest

from protos.tandem.v1 import recommender_pb2, types_pb2
from serving import render

Item = recommender_pb2.RecommendedItem


def lines(capsys: pytest.CaptureFixture[str], *items: Item, label: str = "category") -> list[str]:
    reply = recommender_pb2.RecommendReply(path="known_user", items=items)
    render.show(render.recommendation(reply, label), width=160)
    return capsys.readouterr().out.splitlines()


def header(shown: list[str]) -> list[str]:
    return [name.strip() for name in shown[2].strip("┃").split("┃")]


def test_label_is_shown_under_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    item = Item(item_id="m1", title="Alien [Director's cut]", attributes={"genre": "horror"})
    shown = lines(capsys, item, label="genre")
    assert header(shown) == ["#", "item", "title", "genre", "score"]
    assert "horror" in shown[4]
    assert "Alien [Director's cut]" in shown[4]


def test_label_of_another_workspace_falls_back_to_category(capsys: pytest.CaptureFixture[str]) -> None:
    assert "category" in header(lines(capsys, Item(item_id="a", attributes={"category": "fruit"}), label="genre"))


def test_columns_that_say_nothing_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Item(item_id="a", title="a", sources=["popular"], decided_by="ranker")
    assert header(lines(capsys, plain)) == ["#", "item", "score", "proposed by", "decided by"]
    judged = types_pb2.Guardrail(probability=0.9, verdict=types_pb2.VERDICT_ACCEPT)
    some = lines(capsys, Item(item_id="a", title="a"), Item(item_id="b", title="Bread", guardrail=judged))
    assert header(some) == ["#", "item", "title", "score", "guardrail"]


def test_an_empty_answer_keeps_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert "path: known_user" in "".join(lines(capsys))
