"""Counting how often values are right: by other product types' gold, certified on product types nobody counted."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from features.workspace import Workspace
from models.attributes import Attribute
from models.certify import lower_bound
from models.errors import InvalidVocabulary
from models.policy import TagConfig
from models.tagging import TagItem
from tests.unit.serving.review.making import numbers, opened, proposal, say
from training.values import STOP, learn, learn_of

SIZE = Attribute("size", "number", column="package", units=(("oz", ("ounce",)), ("l", ())))
MAKER = Attribute("maker", "text")
CONFIG = TagConfig()
MAKERS = ("acme", "blue hill", "cobb", "dora", "elm street")


def catalog(units: int, wrong: float = 0.0, seed: int = 0) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
    """Three items of each unit; in a share ``wrong`` of the units titles state another size than the column."""
    rng = np.random.default_rng(seed)
    rows, unit = [], []
    for number in range(units):
        lies = rng.random() < wrong
        maker = MAKERS[int(rng.integers(len(MAKERS)))]
        for _ in range(3):
            size = int(rng.integers(1, 90))
            title = f"{maker.title()} thing{number}, {size + lies} ounce"
            rows.append({"title": title, "text": None, "package": f"{size} OZ", "maker": maker.upper()})
            unit.append(number)
    return pl.DataFrame(rows), np.array(unit, np.int64)


def test_true_values_are_certified_and_accepted() -> None:
    judge, figures = learn([SIZE, MAKER], *catalog(400), CONFIG, 1)
    for name in ("size", "maker"):
        assert figures[name]["units"] == 160
        assert figures[name]["wrong"] == 0
        assert figures[name]["accepted"] == 160
    found = judge.judge(judge.propose(TagItem("New thing by Blue Hill, 33 oz")))
    assert [(each.found.value.text, each.verdict) for each in found] == [("33 oz", "accept"), ("blue hill", "accept")]
    assert all(each.warrant.bound.lower >= CONFIG.precision for each in found)


def test_promise_is_kept_on_units_nobody_saw() -> None:
    """Of sizes that are wrong in one of five units none is accepted: the best score is below what may be tested."""
    judge, figures = learn([SIZE], *catalog(400, wrong=0.2), CONFIG, 1)
    assert figures["size"]["accepted"] == 0
    assert figures["size"]["precision"] == pytest.approx(0.8, abs=0.1)
    certificate = judge.known["size"].certificate
    assert certificate is not None
    assert certificate.threshold() == inf
    (found,) = judge.judge(judge.propose(TagItem("Thing, 3 oz")))
    assert found.verdict == "review"
    assert found.probability == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_certificate_states_what_held_out_units_show(seed: int) -> None:
    judge, figures = learn([SIZE], *catalog(400, wrong=0.02, seed=seed), CONFIG, seed)
    size = figures["size"]
    if size["threshold"] is not None:
        assert lower_bound(size["accepted"], size["wrong"], CONFIG.confidence) >= CONFIG.precision
        assert size["threshold"] >= STOP
    else:
        assert size["accepted"] == 0
    assert judge.known["size"].reason == ""


def test_too_little_gold_certifies_nothing_and_says_so() -> None:
    judge, figures = learn([SIZE], *catalog(30), CONFIG, 1)
    assert figures["size"]["units"] == 0
    (found,) = judge.judge(judge.propose(TagItem("Thing, 3 oz")))
    assert found.verdict == "review"
    assert "30 product types with gold: too few" in found.warrant.reason
    assert found.probability > 0.9


def test_attribute_without_a_column_goes_to_people() -> None:
    other = Attribute("volume", "number", units=(("l", ()),))
    judge, figures = learn([other], *catalog(200), CONFIG, 1)
    assert figures["volume"]["units"] == 0
    (found,) = judge.judge(judge.propose(TagItem("Juice 2 l")))
    assert (found.verdict, found.probability) == ("review", 0.5)
    assert "no column 'volume'" in found.warrant.reason


def test_empty_and_unreadable_cells_say_nothing() -> None:
    items, unit = catalog(200)
    empty = items.with_columns(
        package=pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(None)
        .when(pl.int_range(pl.len()) % 3 == 1)
        .then(pl.lit("one size"))
        .otherwise("package")
    )
    _, figures = learn([SIZE], empty, unit, CONFIG, 1)
    assert (figures["size"]["items"], figures["size"]["unread"]) == (200, 200)


def test_value_of_one_fold_does_not_speak_for_itself() -> None:
    """Every unit has a maker of its own: nobody else's gold knows it, so nothing may be proposed or counted."""
    _, unit = catalog(200)
    own = pl.DataFrame({"title": [f"maker{n} thing" for n in unit], "text": "", "maker": [f"maker{n}" for n in unit]})
    judge, figures = learn([MAKER], own, unit, CONFIG, 1)
    assert figures["maker"]["proposed"] == 0
    assert figures["maker"]["units_proposed"] == 0
    assert judge.known["maker"].right == {}


def test_held_out_units_have_no_part_in_what_is_known() -> None:
    items, unit = catalog(400)
    _, figures = learn([MAKER], items, unit, CONFIG, 1)
    judge, _ = learn([MAKER], items, unit, CONFIG, 1)
    mentions = sum(many for _, many in judge.known["maker"].values.values())
    assert mentions == figures["maker"]["learned"] == 3 * (400 - 160)


def test_several_values_of_a_list_are_gold_each() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        first, second = rng.choice(MAKERS, 2, replace=False)
        rows.append({"title": f"{first} and {second}", "text": "", "flavour": f"{first}, {second}"})
    flavour = Attribute("flavour", "text", several=True)
    judge, figures = learn([flavour], pl.DataFrame(rows), np.arange(300), CONFIG, 1)
    assert figures["flavour"]["wrong"] == 0
    found = judge.judge(judge.propose(TagItem("cobb and elm street")))
    assert [(each.found.value.text, each.verdict) for each in found] == [("cobb", "accept"), ("elm street", "accept")]


def test_the_same_seed_learns_the_same(tmp_path: Path) -> None:
    first, _ = learn([SIZE, MAKER], *catalog(200, 0.05), CONFIG, 1)
    again, _ = learn([SIZE, MAKER], *catalog(200, 0.05), CONFIG, 1)
    first.save(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a" / "values.json").read_bytes() == (tmp_path / "b" / "values.json").read_bytes()


def test_peoples_word_counts_more_than_the_catalogs(tmp_path: Path) -> None:
    items, unit = catalog(200)
    items = items.with_columns(item_id=pl.format("i{}", pl.int_range(pl.len())), package=pl.lit("unknown"))
    workspace = Workspace(tmp_path / "workspace")
    queue = opened(workspace.review)
    queue.put([proposal(f"i{n}", tag="size=1 oz", group="attribute:size") for n in range(30)])
    for number in numbers(queue):
        say(queue, number, "correct", correction=f"size={number} l")
    queue.close()
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"attributes": [SIZE.to_row()]}))
    _, figures = learn_of(path, workspace, items, unit.astype(np.int32), CONFIG, 1)
    assert (figures["size"]["items"], figures["size"]["unread"]) == (30, 570)


def test_vocabulary_without_attributes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps([{"id": "a"}]))
    items, unit = catalog(5)
    with pytest.raises(InvalidVocabulary, match="declares no attributes"):
        learn_of(tmp_path / "v.json", Workspace(tmp_path), items, unit.astype(np.int32), CONFIG, 1)
