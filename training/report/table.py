"""The report on a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from training.report.build import SYSTEM

COLUMNS: Final = ("recall@10", "ndcg@10", "phr@10", "recall@20", "ndcg@20", "phr@20")
SPLITS: Final = ("ndcg@10/repeat", "ndcg@10/explore")
TITLES: Final = {"next_basket": "Next basket", "next_items": "Next items", "temporal": "Temporal split"}


def render(result: Mapping[str, Any]) -> RenderableType:
    """Tables of the protocols, buckets and what is beyond accuracy, each followed by its sentence."""
    parts: list[RenderableType] = []
    for name, protocol in result["protocols"].items():
        if "skipped" in protocol:
            parts.append(Text(f"{TITLES[name]}: not run, {protocol['skipped']}\n"))
            continue
        parts += [_models(TITLES[name], protocol), Text(gain_sentence(protocol["gain"]) + "\n")]
        if protocol["new_items"] is not None:
            parts += [_new_items(TITLES[name], protocol["new_items"])]
            parts += [Text(new_items_sentence(protocol["new_items"]) + "\n")]
        if name in result["tags"]:
            parts.append(Text(tags_sentence(result["tags"][name]) + "\n"))
        if name in result["place"]:
            parts.append(Text(place_sentence(result["place"][name]) + "\n"))
    if result["buckets"]:
        parts += [_buckets(result["buckets"]), Text("")]
    if result.get("beyond_accuracy"):
        parts += [_beyond(result["beyond_accuracy"]), Text(bias_sentence(result))]
    return Group(*parts)


def number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def span(interval: Mapping[str, Any]) -> str:
    """An interval of a difference, with signs."""
    return f"{number(interval['mean'], True)} [{number(interval['low'], True)}, {number(interval['high'], True)}]"


def gain_sentence(gain: Mapping[str, Any]) -> str:
    """What the system gains over the best baseline, and over the best one on explore items."""
    explore = gain["explore"]
    sentence = f"Gain over {gain['best_baseline']} in NDCG@10: {span(gain['ndcg@10'])}"
    if explore["ndcg@10"]["mean"] is not None:
        sentence += f"; over {explore['best_baseline']} on explore items: {span(explore['ndcg@10'])}"
    return sentence + " (paired bootstrap, 95 %)."


def new_items_sentence(found: Mapping[str, Any]) -> str:
    """What the system gains over the best baseline where both are asked for new items only."""
    gain = found["gain"]
    return (
        f"Asked for new items only, gain over {gain['best_baseline']} in NDCG@10: {span(gain['ndcg@10'])}, in "
        f"Recall@10: {span(gain['recall@10'])} (paired bootstrap, 95 %)."
    )


def place_sentence(place: Mapping[str, Any]) -> str:
    """What it is worth to be told where the user is."""
    without = place["models"]["not_told"]
    return (
        f"Told the store or branch, as here: NDCG@10 {span(place['gain']['ndcg@10'])} over not being told, which has "
        f"{number(without['ndcg@10'])} and Recall@10 {number(without['recall@10'])}. "
        + gain_sentence(place["not_told"]).replace("Gain", "Not told, gain", 1)
    )


def tags_sentence(tags: Mapping[str, Any]) -> str:
    """What published tags are worth to the ranker, and whether it uses them."""
    return (
        f"Published tags: NDCG@10 {span(tags['gain']['ndcg@10'])} on these targets, "
        f"{span(tags['validation']['ndcg@10'])} on validation (paired bootstrap, 95 %), which decides: "
        f"{'kept' if tags['kept'] else 'not used'}."
    )


def bias_sentence(result: Mapping[str, Any]) -> str:
    """Which users are served worst."""
    worst, least = result["worst_slice"], result["least_gain_slice"]
    if worst is None or least is None:
        return "No slices: users have no attributes, or no value of one has enough targets."
    return (
        f"Worst slice: {worst['attribute']} = {worst['value']}, NDCG@10 {number(worst['mean'])} "
        f"[{number(worst['low'])}, {number(worst['high'])}], {worst['n']} targets; everybody: "
        f"{number(result['everybody']['mean'])}. Least gain over the best baseline: {least['attribute']} = "
        f"{least['value']}, {span(least)}, {least['n']} targets."
    )


def _models(title: str, protocol: Mapping[str, Any]) -> Table:
    table = _table(f"{title}: {protocol['targets']} targets", ("model", *COLUMNS, *SPLITS))
    for name, values in protocol["models"].items():
        style = "bold" if name == SYSTEM else ""
        table.add_row(name, *(number(values[column]) for column in (*COLUMNS, *SPLITS)), style=style)
    return table


def _new_items(title: str, found: Mapping[str, Any]) -> Table:
    table = _table(f"{title}, asked for items never had: {found['targets']} targets", ("model", *COLUMNS))
    for name, values in found["models"].items():
        style = "bold" if name == SYSTEM else ""
        table.add_row(name, *(number(values[column]) for column in COLUMNS), style=style)
    return table


def _buckets(buckets: list[Mapping[str, Any]]) -> Table:
    table = _table(
        f"NDCG@10 by history length: the same {buckets[0]['targets']} targets, truncated",
        (buckets[0]["unit"], SYSTEM, "best baseline", "its NDCG@10", "gain"),
    )
    for bucket in buckets:
        best = bucket["gain"]["best_baseline"]
        models = bucket["models"]
        table.add_row(
            bucket["baskets"],
            number(models[SYSTEM]["ndcg@10"]),
            best,
            number(models[best]["ndcg@10"]),
            span(bucket["gain"]["ndcg@10"]),
        )
    return table


def _beyond(found: Mapping[str, Mapping[str, float | None]]) -> Table:
    columns = list(next(iter(found.values())))
    table = _table("Beyond accuracy", ("model", *columns))
    for name, values in found.items():
        table.add_row(name, *(number(values[column]) for column in columns), style="bold" if name == SYSTEM else "")
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    """Narrow enough for 80 columns, where numbers would else be cut off: headings of metrics take a line a part."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for position, column in enumerate(columns):
        heading = re.sub(r"(?<=[a-z])(@\d+)(/|$)", r"\n\1\n", column).strip()
        table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=True)
    return table
