"""The report: its numbers, its page, its record; on catalogs with and without repeats, categories and attributes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from features.keys import NOWHERE
from features.ports import Event
from features.workspace import Workspace, WorkspaceConfig
from tests.unit.features.shop import START, catalog, events_of, to_frame
from tests.unit.training.test_baselines import N, shopping
from training.baselines.base import Baskets, Recommender
from training.baselines.popular import OwnCounts, Popular
from training.metrics import Interval, all_metrics, bootstrap, per_target
from training.protocols import IntArray, Protocol, next_basket, temporal
from training.ranking import Targets
from training.report import html, svg, table, tracking
from training.report.build import Facts, NewItems, Outcome, build
from training.report.run import ask, code_revision, evaluate_ranking


class Oracle:
    """Wanted items first for every second target, else the user's own counts."""

    name = "tandem"
    parameters: Mapping[str, Any] = {"leaves": 31}
    importance: Mapping[str, float] = {"ui_sessions": 3.0, "i_<age>": 1.0, "nothing": 0.0}
    tags: tuple[Interval, Recommender, Recommender] | None = None

    def __init__(self, protocol: Protocol) -> None:
        self._protocol, self._own = protocol, OwnCounts(Baskets(protocol), fallback=True)

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        rows = self._own.recommend(targets, k, since)
        for number in range(0, len(targets), 2):
            wanted = self._protocol.wanted(targets, number)
            rest = rows[number][~np.isin(rows[number], wanted)]
            rows[number] = np.concatenate((wanted, rest))[:k]
        return rows

    @property
    def new_items(self) -> Recommender:
        return NewOracle(self._protocol)


class NewOracle:
    """New items that every second target wants, then what is popular."""

    name = "tandem"
    parameters: Mapping[str, Any] = {"leaves": 7}

    def __init__(self, protocol: Protocol) -> None:
        self._protocol, self._popular = protocol, Popular(Baskets(protocol), repeats=False)

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        rows = self._popular.recommend(targets, k, since)
        had = self._protocol.had_sets(targets, since)
        for number in range(0, len(targets), 2):
            wanted = np.setdiff1d(self._protocol.wanted(targets, number), had.of(number))
            rows[number] = np.concatenate((wanted, rows[number][~np.isin(rows[number], wanted)]))[:k]
        return rows


def workspace_of(
    folder: Path, items: pl.DataFrame, frame: pl.DataFrame, users: pl.DataFrame, label: str | None
) -> Workspace:
    workspace = Workspace(folder)
    workspace.items.parent.mkdir(parents=True)
    items.write_parquet(workspace.items)
    frame.write_parquet(workspace.interactions)
    users.write_parquet(workspace.users)
    workspace.write_config(
        WorkspaceConfig("shop", "0123456789abcdef", label, "generic", "data", 0, {"category": "categorical"})
    )
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    users = pl.DataFrame(
        {"user_id": [f"u{n:03d}" for n in range(60)], "age": ["<old>" if n % 2 else "young" for n in range(60)]}
    )
    return workspace_of(
        tmp_path_factory.mktemp("shop"), catalog(N), to_frame(shopping(70, 4, baskets=9)), users, "category"
    )


@pytest.fixture(scope="module")
def result(workspace: Workspace) -> dict[str, Any]:
    return evaluate_ranking(workspace, Oracle, repeats=True, tuning_targets=20)


def test_json_has_models_and_the_gain_over_the_best_baseline(result: dict[str, Any]) -> None:
    parsed = json.loads(json.dumps(result, allow_nan=False))
    assert list(parsed["models"]) == [
        "g-topfreq",
        "popular",
        "p-topfreq",
        "gp-topfreq",
        "tifu-knn-published",
        "tifu-knn",
        "lightgbm-counts",
        "item-knn",
        "als",
        "tandem",
    ]
    for values in parsed["models"].values():
        assert {"ndcg@10", "recall@10", "phr@10", "ndcg@20", "ndcg@10/repeat", "recall@20/explore"} <= set(values)
    gain = parsed["gain"]
    others = {name: values["ndcg@10"] for name, values in parsed["models"].items() if name != "tandem"}
    assert gain["best_baseline"] == max(others, key=lambda name: others[name])
    assert gain["ndcg@10"]["mean"] == pytest.approx(parsed["models"]["tandem"]["ndcg@10"] - max(others.values()))
    assert 0 < gain["ndcg@10"]["low"] < gain["ndcg@10"]["mean"] < gain["ndcg@10"]["high"]
    assert [parsed["repeats"], parsed["dataset"], parsed["data_hash"]] == [True, "shop", "0123456789abcdef"]


def test_numbers_are_those_of_the_lists(result: dict[str, Any], workspace: Workspace) -> None:
    """Worked out again outside the report: same protocol, same lists, same metrics, same interval."""
    protocol = next_basket(pl.read_parquet(workspace.interactions), pl.read_parquet(workspace.items))
    wanted, had = protocol.wanted_sets(protocol.test), protocol.had_sets(protocol.test)
    best = OwnCounts(
        Baskets(protocol), True, result["protocols"]["next_basket"]["tuned"]["gp-topfreq"]["parameters"]["ties"]
    )
    values = {
        model.name: all_metrics(model.recommend(protocol.test, 20), wanted, had) for model in (Oracle(protocol), best)
    }
    for name, own in values.items():
        assert {key: pytest.approx(np.nanmean(column)) for key, column in own.items()} == result["models"][name]
    lift = bootstrap(values["tandem"]["ndcg@10"] - values["gp-topfreq"]["ndcg@10"], 7).to_dict()
    assert result["protocols"]["next_basket"]["lift"]["gp-topfreq"]["ndcg@10"] == pytest.approx(lift)


class Placed(Oracle):
    """An oracle to whom tells it a place, and own counts to all others."""

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        counts = self._own.recommend(targets, k, since)
        told = targets.place != NOWHERE
        counts[told] = super().recommend(targets, k, since)[told]
        return counts


def test_what_places_are_worth_is_measured_by_leaving_them_out(
    workspace: Workspace, result: dict[str, Any], tmp_path: Path
) -> None:
    """Where requests can tell one: of the days after a date nobody knows where anybody will be."""
    assert result["place"] == {}
    placed = Workspace(shutil.copytree(workspace.root, tmp_path / "placed"))
    frame = pl.read_parquet(placed.interactions)
    frame.with_columns(place=pl.lit("north")).write_parquet(placed.interactions)
    found = evaluate_ranking(placed, Placed, repeats=True, tuning_targets=20)
    assert list(found["place"]) == ["next_basket"]
    place = found["place"]["next_basket"]
    assert place["told"] == found["protocols"]["next_basket"]["targets"]
    assert place["models"]["told"] == found["models"]["tandem"]
    best = found["protocols"]["next_basket"]["models"]["p-topfreq"]
    assert place["models"]["not_told"]["ndcg@10"] == pytest.approx(best["ndcg@10"], abs=0.02)
    gain = place["gain"]["ndcg@10"]
    lost = place["models"]["told"]["ndcg@10"] - place["models"]["not_told"]["ndcg@10"]
    assert gain["mean"] == pytest.approx(lost)
    assert gain["low"] > 0
    assert place["not_told"]["ndcg@10"]["mean"] == pytest.approx(found["gain"]["ndcg@10"]["mean"] - lost)
    told = "Told the store or branch, as here: NDCG@10 +"
    assert told in html.render(found)
    assert told in printed(found)


def test_new_items_are_asked_for_apart(result: dict[str, Any], workspace: Workspace) -> None:
    """Baselines that show only what was had are left out; the rest is tuned for new items; numbers are the lists'."""
    for name, make in (("next_basket", next_basket), ("temporal", temporal)):
        found = result["protocols"][name]["new_items"]
        assert list(found["models"]) == [
            "g-topfreq",
            "popular",
            "tifu-knn-published",
            "tifu-knn",
            "item-knn",
            "als",
            "tandem",
        ]
        protocol = make(pl.read_parquet(workspace.interactions), pl.read_parquet(workspace.items))
        wanted, had = protocol.wanted_sets(protocol.test), protocol.had_sets(protocol.test)
        wanted = wanted.keep(~wanted.inside(had))
        assert found["targets"] == int((wanted.sizes > 0).sum())
        assert found["targets"] < result["protocols"][name]["targets"]
        popular = Popular(Baskets(protocol), False, found["tuned"]["popular"]["parameters"]["days"])
        rows: dict[str, Recommender] = {"tandem": NewOracle(protocol), "popular": popular}
        values = {model: per_target(one.recommend(protocol.test, 20), wanted, 10) for model, one in rows.items()}
        for model, own in values.items():
            assert {key: pytest.approx(np.nanmean(column)) for key, column in own.items()}.items() <= {
                **found["models"][model]
            }.items()
        others = {model: own["ndcg@10"] for model, own in found["models"].items() if model != "tandem"}
        gain = found["gain"]
        assert gain["best_baseline"] == max(others, key=lambda model: others[model])
        assert gain["ndcg@10"]["mean"] == pytest.approx(found["models"]["tandem"]["ndcg@10"] - max(others.values()))
        assert gain["ndcg@10"]["n"] == found["targets"]
    assert result["new_items"] == result["protocols"]["next_basket"]["new_items"]


def test_new_items_by_hand() -> None:
    """Three users: one wants an item had and two new ones, one only what they had, one a single new item."""
    events = [
        *events_of("a", ["i0", "i0", "i0"]),
        *(Event(f"a{item}", "a", item, "purchase", 1.0, START + 9 * 86_400, "a-last") for item in ("i0", "i1", "i2")),
        *events_of("b", ["i0", "i1", "i0", "i1"]),
        *events_of("c", ["i0", "i1", "i0", "i3"]),
    ]
    protocol = next_basket(to_frame(events), catalog(6))
    targets = protocol.test
    rows = {
        "tandem": np.array([[4, 1, 2], [2, 3, 4], [3, 2, 4]]),
        "popular": np.array([[1, 4, 5], [2, 3, 4], [2, 4, 5]]),
        "als": np.array([[4, 5, 3], [2, 3, 4], [2, 4, 5]]),
    }
    whole = {name: np.zeros((3, 1), np.int64) for name in rows}
    outcome = Outcome(
        protocol, targets, protocol.wanted_sets(targets), protocol.had_sets(targets), whole, {}, NewItems(rows)
    )
    found = build([outcome], [], Facts(True, 7, "data", "code"), {})["new_items"]
    second = 1 / np.log2(3)
    tandem = np.array([(second + 0.5) / (1 + second), 1.0])
    popular = np.array([1 / (1 + second), 0.0])
    assert found["targets"] == 2
    assert found["models"]["tandem"]["ndcg@10"] == pytest.approx(tandem.mean())
    assert found["models"]["popular"]["ndcg@10"] == pytest.approx(popular.mean())
    assert found["models"]["tandem"]["recall@10"] == 1.0
    assert found["models"]["popular"]["recall@10"] == 0.25
    assert found["models"]["als"]["ndcg@10"] == 0.0
    assert found["gain"]["best_baseline"] == "popular"
    assert found["gain"]["ndcg@10"] == pytest.approx(bootstrap(tandem - popular, 7).to_dict())
    assert found["gain"]["recall@10"]["mean"] == pytest.approx(0.75)


class Forgetful(Oracle):
    """Answers what users had where it was asked for new items."""

    @property
    def new_items(self) -> Recommender:
        return self._own


def test_a_list_of_new_items_that_holds_old_ones_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="new items"):
        evaluate_ranking(workspace, Forgetful, repeats=True, tuning_targets=20)


def test_both_protocols_buckets_slices_and_what_is_beyond_accuracy(result: dict[str, Any]) -> None:
    assert list(result["protocols"]) == ["next_basket", "temporal"]
    assert [bucket["baskets"] for bucket in result["buckets"]] == ["0", "1-2", "3-5", "6-10"]
    assert {bucket["targets"] for bucket in result["buckets"]} == {70}
    assert set(result["slices"]["age"]) == {"<old>", "young", "unknown"}
    # Every second target is answered perfectly: users of even numbers, who are the young ones.
    assert (result["worst_slice"]["value"], result["worst_slice"]["n"]) == ("<old>", 30)
    assert result["beyond_accuracy"]["g-topfreq"]["coverage@10"] < result["beyond_accuracy"]["tandem"]["coverage@10"]
    assert all(0 <= values["diversity@10"] <= 1 for values in result["beyond_accuracy"].values())


def test_evaluation_repeats_itself(result: dict[str, Any], workspace: Workspace) -> None:
    again = evaluate_ranking(workspace, Oracle, repeats=True, tuning_targets=20)
    assert {**again, "seconds": None} == {**result, "seconds": None}


class _Page(HTMLParser):
    """Collects tags and whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_page_is_whole_and_fetches_nothing(result: dict[str, Any]) -> None:
    text = html.render(result)
    page = _Page()
    page.feed(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert "<old>" not in text
    assert "&lt;old&gt;" in text
    plots = re.findall(r"<svg.*?</svg>", text, re.S)
    # Lift for each protocol, buckets, slices by age, importance; each is well-formed and described in words.
    assert len(plots) == 5
    for plot in plots:
        tree = ElementTree.fromstring(plot)
        assert tree.get("role") == "img"
        assert [child.tag for child in tree][:2] == ["title", "desc"]
        assert not re.search(r"nan|inf", plot)
    assert f"{result['models']['tandem']['ndcg@10']:.4f}" in text


def printed(result: Mapping[str, Any], width: int = 200) -> str:
    console = Console(file=StringIO(), width=width)
    with console.capture() as capture:
        console.print(table.render(result))
    return capture.get()


def test_no_number_is_cut_off_on_a_terminal_of_80_columns_or_in_a_file(result: dict[str, Any]) -> None:
    text = printed(result, 80)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80
    for values in result["models"].values():
        assert f"{values['phr@20']:.4f}" in text


def test_table_shows_every_model_and_the_gain(result: dict[str, Any]) -> None:
    text = printed(result)
    assert all(name in text for name in result["models"])
    assert f"Gain over {result['gain']['best_baseline']}" in text
    new = result["new_items"]
    for page in (text, html.render(result)):
        assert f"Asked for new items only, gain over {new['gain']['best_baseline']}" in page
        assert f"{new['models']['tandem']['recall@10']:.4f}" in page
    assert "Worst slice: age = <old>" in text


def test_runs_are_recorded_and_compare(result: dict[str, Any], tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    shop = Workspace(tmp_path)
    page = html.render(result)
    runs = [tracking.record(shop, result, page) for _ in range(2)]
    client = MlflowClient(tracking.store(shop))
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in found} == set(runs)
    run = found[0]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["next_basket/models/tandem/ndcg_at_10"] == result["models"]["tandem"]["ndcg@10"]
    assert (
        run.data.metrics["new_items/temporal/models/als/recall_at_10"]
        == (result["protocols"]["temporal"]["new_items"]["models"]["als"]["recall@10"])
    )
    assert run.data.params["tandem.leaves"] == "31"
    for protocol in ("next_basket", "temporal"):
        assert run.data.params[f"{protocol}.tandem.leaves"] == "31"
        assert run.data.params[f"{protocol}.new_items.tandem.leaves"] == "7"
    assert run.data.metrics["slices/worst_slice/mean"] == result["worst_slice"]["mean"]
    assert "next_basket.new_items.tifu-knn.alpha" in run.data.params
    assert "next_basket.tifu-knn.alpha" in run.data.params
    assert run.data.tags["data_hash"] == "0123456789abcdef"
    assert run.data.tags["revision"] == code_revision()
    kept = tmp_path / "mlflow" / "artifacts" / runs[0] / "artifacts"
    assert (kept / "report.html").read_text() == page
    assert json.loads((kept / "report.json").read_text())["gain"] == result["gain"]


def test_catalog_without_repeats_categories_or_attributes(tmp_path: Path) -> None:
    """Films: what was had is neither wanted nor shown by baselines; slices are empty, and nothing breaks."""
    users = pl.DataFrame({"user_id": pl.Series([], dtype=pl.String)})
    items = catalog(N).drop("category", "brand")
    once = to_frame(shopping(40, 5)).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    shop = workspace_of(tmp_path / "films", items, once, users, None)
    result = evaluate_ranking(shop, Oracle, repeats=False, tuning_targets=20)
    json.dumps(result, allow_nan=False)
    assert list(result["protocols"]) == ["next_items", "temporal"]
    assert "gp-topfreq" not in result["models"]
    assert all(values["ndcg@10/repeat"] is None for values in result["models"].values())
    assert all(values["ndcg@10"] == values["ndcg@10/explore"] for values in result["models"].values())
    assert result["slices"] == {}
    # Every list is one of new items already.
    assert result["new_items"] is None
    assert all(protocol["new_items"] is None for protocol in result["protocols"].values())
    assert result["worst_slice"] is None
    assert result["beyond_accuracy"]["tandem"]["diversity@10"] is None
    assert html.render(result)
    assert printed(result)


def test_one_basket_a_user_is_judged_by_the_temporal_split_alone(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": pl.Series([], dtype=pl.String)})
    shop = workspace_of(tmp_path / "once", catalog(N), to_frame(shopping(60, 5, baskets=1)), users, "category")
    result = evaluate_ranking(shop, Oracle, repeats=True, tuning_targets=20)
    assert "4 baskets" in result["protocols"]["next_basket"]["skipped"]
    assert result["protocol"] == "temporal"
    assert result["models"]["g-topfreq"]["ndcg@10"] > 0
    assert "Not run" in html.render(result)
    assert tracking.metrics(result)
    assert printed(result)


class Fixed:
    """Answers one array, whatever is asked."""

    name = "fixed"
    parameters: Mapping[str, Any] = {}

    def __init__(self, rows: IntArray) -> None:
        self._rows = rows

    def recommend(self, *_: Any) -> IntArray:
        return self._rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [([[1, 1] + [-1] * 18], "twice"), ([[N] + [-1] * 19], "catalog"), ([[1]], "asked for")],
)
def test_impossible_lists_are_refused(rows: list[list[int]], message: str) -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=message):
        ask(Fixed(np.array(rows, np.int64)), Targets(one, one, one, one, one), N)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-0.013, 0.047), (0.0, 1.0)])
def test_ticks_cover_what_they_scale(low: float, high: float) -> None:
    marks = svg.ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 12
    assert len(set(np.round(np.diff(marks), 9))) == 1


class Told(Oracle):
    """Published tags are all it knows: without them it has the user's own counts."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        self.tags = (Interval(0.1, 0.05, 0.15, 60), self, self._own)


def test_what_published_tags_gain_is_reported_with_its_interval(workspace: Workspace) -> None:
    result = evaluate_ranking(workspace, Told, repeats=True, tuning_targets=20)
    tags = result["tags"]["next_basket"]
    assert tags["kept"] is True
    assert tags["models"]["with"] == result["models"]["tandem"]
    gain, models = tags["gain"]["ndcg@10"], tags["models"]
    assert gain["mean"] == pytest.approx(models["with"]["ndcg@10"] - models["without"]["ndcg@10"])
    assert 0 < gain["low"] < gain["mean"] < gain["high"]
    sentence = "on validation (paired bootstrap, 95 %), which decides: kept."
    console = Console(width=300, file=StringIO())
    console.print(table.render(result))
    assert sentence in console.file.getvalue()  # type: ignore[attr-defined]
    assert sentence in html.render(result)
