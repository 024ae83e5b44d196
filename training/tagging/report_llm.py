"""The part of the tag report about the LLM: what its answers take, its worth by how much gold there is, fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from models.certify import least_errorless
from training.report.html import data_table
from training.tagging.cells import number, numbers, span
from training.tagging.claims import START_UNITS

_TAKEN: Final = {
    "answers": "answers",
    "prompt_tokens": "read",
    "completion_tokens": "written",
    "seconds_per_answer": "s each",
    "latency_ms": "ms",
    "cost": "cost",
}
"""Of methods that ask an LLM: by the item, but for the seconds of one answer."""
_TUNED: Final = {
    "first shown": "first_shown",
    "LLM": "llm",
    "tuned": "fine_tuned",
    "trees": "trees",
    "with LLM": "both",
    "with tuned": "both_fine_tuned",
}
_TUNED_GAINS: Final = (
    "fine_tuned - llm",
    "fine_tuned - first_shown",
    "fine_tuned - trees",
    "both_fine_tuned - trees",
    "both_fine_tuned - both",
)


def taken(found: Mapping[str, Any]) -> Iterable[RenderableType]:
    """What the LLM's answers take; nothing where none was asked."""
    asking = {name: values for name, values in found["methods"].items() if "answers" in values}
    if asking:
        yield numbers("the LLM by the item: answers, seconds of each, tokens", {"methods": asking}, _TAKEN)
        yield Text(taken_sentence(found) + "\n")


def taken_sentence(found: Mapping[str, Any]) -> str:
    """How time and cost of the LLM's answers are counted; empty where none was asked."""
    asking = [values for values in found["methods"].values() if "answers" in values]
    if not asking:
        return ""
    prices = asking[0]["price_per_1k_prompt"], asking[0]["price_per_1k_completion"]
    priced = (
        f"the settings' price ({prices[0]:g} for 1,000 tokens read, {prices[1]:g} for 1,000 written)"
        if any(prices)
        else "a price of 0: the settings name none, as for a model in this process, which costs its seconds alone"
    )
    return (
        "An LLM's time is its share of the time in which answers were generated (with n at once each counts an n-th), "
        "unknown for answers kept by an older version, and not the processor time of the others; its cost is tokens "
        f"times {priced}."
    )


def gold_sizes(llm: Mapping[str, Any]) -> RenderableType:
    """Where the LLM earns its place: accuracy by how many groups have gold; who was asked, where that is not told."""
    if "by_gold_size" not in llm:
        return Text(_asked_sentence(llm) + "\n")
    shown = Table(
        title=f"accuracy by gold, {llm['asked_test']} groups asked about; {llm['model']}", title_justify="left"
    )
    for column in ("gold", "trees", "LLM", "both", "both minus trees"):
        shown.add_column(column, justify="right")
    for row in llm["by_gold_size"]:
        cells = (number(row[name]["mean"]) for name in ("trees", "llm", "both"))
        shown.add_row(str(row["gold"]), *cells, span(row["gain_of_llm"]))
    return shown


def _asked_sentence(llm: Mapping[str, Any]) -> str:
    least = least_errorless(0.95, 0.95)
    return (
        f"The LLM's lines are of {llm['model']}, split {llm['seed']}: at most {llm['asked_test']} test items a "
        f"vocabulary, and {llm['asked_train']} of training that calibrate and certify; gains are over these tests. "
        f"A certificate of 95 % needs {least} errorless items of training, and is tried first on the "
        f"{ceil(START_UNITS * least)} surest, or on all where there are fewer: a small sample certifies nothing."
    )


def fine_tuned(llm: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The same before and after fine-tuning; nothing where it was not fine-tuned."""
    if "fine_tuned" not in llm:
        return
    yield Text("\n" + _tuned_sentence(llm["fine_tuned"]))
    shown = Table(title="accuracy before and after fine-tuning, by gold", title_justify="left")
    for column in ("gold", *_TUNED):
        shown.add_column(column, justify="right")
    for name, cells in _tuned_rows(llm["fine_tuned"]):
        shown.add_row(name, *cells)
    yield shown
    gains = Table(title="gains, 95 % intervals over groups", title_justify="left")
    for column in ("gold", *_TUNED_GAINS):
        gains.add_column(column.replace("_", " "))
    for name, cells in _tuned_gains(llm["fine_tuned"]):
        gains.add_row(name, *cells)
    yield gains


def _tuned_sentence(tuned: Mapping[str, Any]) -> str:
    spent, config = tuned["training"], tuned["training"]["config"]
    lost = ", ".join(f"{loss:.3f}" for loss in spent["loss"])
    malformed = tuned["by_gold_size"][-1]["malformed"]
    how = f"LoRA of rank {config['rank']}, {spent['steps']} steps, {spent['seconds']:.0f} s on {spent['device']}"
    return (
        f"Fine-tuned: {tuned['model']}, on {tuned['pairs']} questions about {tuned['groups']} training groups that are "
        f"neither asked about nor evidence ({how}; loss by epoch {lost} nats a token). Malformed answers with all "
        f"gold: {malformed['llm']:.3f} before, {malformed['fine_tuned']:.3f} after."
    )


def _tuned_rows(tuned: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str]]]:
    for row in tuned["by_gold_size"]:
        yield str(row["gold"]), [number(row[key]["mean"]) for key in _TUNED.values()]


def _tuned_gains(tuned: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str]]]:
    for row in tuned["by_gold_size"]:
        yield str(row["gold"]), [span(row["gain"][name]) for name in _TUNED_GAINS]


def tables(llm: Mapping[str, Any]) -> str:
    """The tables about the LLM on the page; who was asked, where there are none."""
    if "by_gold_size" not in llm:
        return f"<p>{escape(_asked_sentence(llm))}</p>"
    columns = ("gold", "trees", "LLM", "both", "both minus trees")
    rows = [
        (
            str(row["gold"]),
            [*(number(row[name]["mean"]) for name in ("trees", "llm", "both")), span(row["gain_of_llm"])],
            False,
        )
        for row in llm["by_gold_size"]
    ]
    parts = [
        "<h3>Where the LLM earns its place</h3>",
        data_table(f"Accuracy by gold, {llm['asked_test']} groups asked about; {llm['model']}", columns, rows),
    ]
    if tuned := llm.get("fine_tuned"):
        parts += [
            f"<h3>Fine-tuned</h3><p>{escape(_tuned_sentence(tuned))}</p>",
            data_table(
                "Accuracy before and after fine-tuning, by gold",
                ("gold", *_TUNED),
                [(name, cells, False) for name, cells in _tuned_rows(tuned)],
            ),
            data_table(
                "Gains, with 95 % intervals over groups",
                ("gold", *(name.replace("_", " ") for name in _TUNED_GAINS)),
                [(name, cells, False) for name, cells in _tuned_gains(tuned)],
            ),
        ]
    return "".join(parts)
