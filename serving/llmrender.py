"""Replies of the LLM service for people."""

from __future__ import annotations

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protos.tandem.v1 import llm_pb2


def status_table(reply: llm_pb2.LLMStatusReply) -> RenderableType:
    """A row for each target."""
    table = Table(title="language models", title_justify="left")
    for name in ("target", "model", "place", "health", "breaker", "running", "tokens/s"):
        table.add_column(name, justify="right" if name in ("running", "tokens/s") else "left")
    for target in reply.targets:
        table.add_row(
            target.name,
            target.model,
            target.place,
            "healthy" if target.healthy else target.cause,
            target.breaker,
            f"{target.running}/{target.max_concurrency}",
            f"{target.output_tokens_per_s:.0f}" if target.HasField("output_tokens_per_s") else "-",
        )
    return table


def answer_panel(reply: llm_pb2.LLMAskReply) -> RenderableType:
    """The text, and below it who answered at what cost."""
    usage = reply.usage
    how = f" from the {reply.cache} cache" if reply.cache else f" after {reply.attempts} calls" * (reply.attempts > 1)
    total = next((stage.ms for stage in reply.stages if stage.name == "total"), 0.0)
    return Group(
        Text(reply.text),
        Text(
            f"{reply.target} ({usage.model}){how}: {usage.prompt_tokens} + {usage.completion_tokens} tokens, "
            f"cost {usage.cost:g}, {total:.0f} ms, {reply.finish}",
            style="dim",
        ),
    )


def cost_table(spent: pl.DataFrame) -> RenderableType:
    """A row for each day, tenant, task, job, target and model, and the sum."""
    table = Table(title="spent on language models", title_justify="left", show_footer=True)
    texts = ("day", "tenant", "task", "job", "target", "model")
    for name in texts:
        table.add_column(name, footer="sum" if name == "day" else "")
    for name in ("calls", "prompt_tokens", "completion_tokens"):
        table.add_column(name.replace("_", " "), justify="right", footer=f"{int(spent[name].sum()):,}")
    table.add_column("cost", justify="right", footer=f"{float(spent['cost'].sum()):g}")
    for row in spent.iter_rows(named=True):
        counts = (f"{row[name]:,}" for name in ("calls", "prompt_tokens", "completion_tokens"))
        table.add_row(*(row[name] or "-" for name in texts), *counts, f"{row['cost']:g}")
    return table
