"""What the cache of answers is worth and how often it is wrong, measured on real items asked about as often as bought.

A request asks for the tag of an item, drawn by how often the item was bought (a Zipf-like mix over real items). Asked
items are hidden from the catalog's votes, as new ones are. The right answer is the item's gold label, or, where that is
not among the prompt's choices, the first of them. A false hit gives an item another answer than its own.

The threshold of near questions is chosen on half of the product types: thresholds are tried from the strictest down,
and the last one is taken whose false hits, by the upper 95 % bound of Clopper and Pearson over requests as the traffic
brings them, stay within the error budget. What it does is reported on the other half, whose types had no part in the
choice. Requests of one type share their mistakes: `false_hit_upper_by_type` is the bound where types are drawn anew.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.workspace import Workspace
from models import prompts, tagging
from models.catalog import Catalog
from models.labelcounts import LabelCounts
from models.ports import LLMRequest, LLMResult
from serving.errors import NotReady
from serving.gateway.cache import CacheConfig, TieredCache, open_store
from serving.gateway.ports import Ask, Meaning
from serving.gateway.semantic import MeaningIndex, tag_meaning

BUDGET: Final = 0.01
"""False hits among semantic hits that are allowed."""
GRID: Final = tuple(round(0.99 - 0.01 * step, 2) for step in range(10))
"""Cosines that are tried, strictest first, fixed before anything is measured. Below 0.9 little is left to gain."""
_CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 1_000
_CHARACTERS_PER_TOKEN: Final = 4
_MODEL: Final = "measured"
_SEED: Final = 5

Progress = Callable[[str, float], None]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One question of the mix: what is asked, the item's type, and the answer that is right for it."""

    ask: Ask
    kind: int
    right: LLMResult


def measure_cache(
    workspace: Workspace,
    catalog: Catalog,
    progress: Progress = lambda _stage, _share: None,
    requests: int = 20_000,
    config: CacheConfig | None = None,
) -> dict[str, Any]:
    """Hit rate, false hits, tokens saved and latency of the exact and the semantic cache on held-out product types.

    ``catalog``: the workspace's, with labels (a release's, or `Catalog.build`). ``requests``: of each half. ``config``:
    what is measured, but for the threshold, which is chosen. Under ``semantic``, ``threshold`` is None where none kept
    the budget: then the semantic cache is better left off. Hits are shares of all requests, false ones of the hits;
    ``tokens_saved`` counts four characters as a token. Half a minute.
    Raises NotReady where there are too few labelled items that somebody bought.
    """
    config = config or CacheConfig()
    tuning, held_out = _streams(workspace, catalog, requests, progress)
    tried = []
    chosen: float | None = None
    for number, threshold in enumerate(GRID):
        progress("threshold", number / len(GRID))
        hits, wrong = _replay(tuning, threshold, config.agreeing)
        tried.append({"threshold": threshold, "hits": hits, "wrong": wrong, "upper": upper_bound(hits, wrong)})
        if upper_bound(hits, wrong) > BUDGET:
            break
        chosen = threshold
    used = config.model_copy(update={"semantic": chosen is not None, "threshold": chosen or config.threshold})
    progress("cache", 0.0)
    report = asyncio.run(_serve(held_out, used))
    report["semantic"]["threshold"] = chosen
    report["configured_threshold"] = config.threshold
    report["agreeing"] = config.agreeing
    report["tuning"] = tried
    progress("cache", 1.0)
    return report


def upper_bound(hits: int, wrong: int) -> float:
    """Clopper-Pearson upper confidence bound (95 %) of the share that is wrong; 1 where there is no hit."""
    from scipy.stats import beta

    return 1.0 if wrong >= hits else float(beta.ppf(_CONFIDENCE, wrong + 1, hits - wrong))


def _streams(
    workspace: Workspace, catalog: Catalog, requests: int, progress: Progress
) -> tuple[list[Request], list[Request]]:
    """The mixes of both halves of the product types."""
    items = pl.read_parquet(workspace.items)
    bought = pl.read_parquet(workspace.interactions, columns=["item_id"]).group_by("item_id").len("bought")
    counts = items.join(bought, on="item_id", how="left", maintain_order="left")["bought"].fill_null(0).to_numpy()
    rng = np.random.default_rng(_SEED)
    asked = (rng.random(len(items)) < 0.5) & (catalog.label_of_row >= 0) & (counts > 0)
    column = items["product_type"] if "product_type" in items.columns else pl.Series(catalog.text_of_row)
    kinds = column.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64) - 1
    half = rng.random(int(kinds.max()) + 1) < 0.5
    known = LabelCounts.build(catalog, ~asked)
    streams = []
    for number, side in enumerate((half, ~half)):
        rows = np.flatnonzero(asked & side[kinds])
        if len(rows) < 100:
            raise NotReady(
                f"{len(rows)} labelled items with interactions are too few to measure the cache: ingest 100 or more"
            )
        weights = counts[rows] / counts[rows].sum()
        drawn = rng.choice(rows, requests, p=weights)
        progress("mix", number / 2)
        streams.append(_requests(items, catalog, known, drawn, kinds))
    return streams[0], streams[1]


def _requests(
    items: pl.DataFrame,
    catalog: Catalog,
    known: LabelCounts,
    drawn: IntArray,
    kinds: IntArray,
) -> list[Request]:
    template = prompts.load("tag")
    made: dict[int, Request] = {}
    for row in np.unique(drawn).tolist():
        record = items.row(row, named=True)
        attributes = {name: str(record[name]) for name in catalog.attributes if record[name] is not None}
        item = tagging.TagItem(record["title"], record["text"] or "", attributes)
        vector = catalog.vectors[catalog.text_of_row[row]]
        found = tagging.retrieve(catalog, known, item, vector)
        asked = tagging.prompt(template, catalog, found)
        if asked is None:
            continue
        gold = int(catalog.label_of_row[row])
        right = gold if gold in found.choices else found.choices[0]
        meaning = tag_meaning(template.version, found, catalog.labels, vector)
        made[row] = Request(_ask(asked, meaning), int(kinds[row]), _answer(asked, catalog.labels[right]))
    return [made[row] for row in drawn.tolist() if row in made]


def _ask(request: LLMRequest, meaning: Meaning | None) -> Ask:
    return Ask(task="tag", request=request, budget_s=1.0, meaning=meaning)


def _answer(request: LLMRequest, label: str) -> LLMResult:
    text = '{"tags":["' + label + '"]}'
    prompt = (len(request.system) + len(request.user)) // _CHARACTERS_PER_TOKEN
    return LLMResult(text, "stop", prompt, len(text) // _CHARACTERS_PER_TOKEN)


def _replay(stream: Sequence[Request], threshold: float, agreeing: int) -> tuple[int, int]:
    """Semantic hits and how many were false: TieredCache's rule without its stores, bounds and schemas."""
    index = MeaningIndex(1 << 20, 1 << 20)
    seen: dict[str, str] = {}
    hits = wrong = 0
    for request in stream:
        user, meaning, right = request.ask.request.user, request.ask.meaning, request.right.text
        if user in seen:
            continue
        if meaning is not None:
            near = index.agreed(meaning.scope, meaning.vector, threshold, agreeing, 0.0)
            if near:
                hits += 1
                wrong += seen[near[0]] != right
                continue
            index.add(meaning.scope, user, meaning.vector, right, 1.0)
        seen[user] = right
    return hits, wrong


async def _serve(stream: Sequence[Request], config: CacheConfig) -> dict[str, Any]:
    """The whole stream through the real cache over a file of its own; a miss is answered rightly and kept."""
    how = np.zeros(len(stream), np.int8)  # 0 miss, 1 exact, 2 semantic
    false = np.zeros(len(stream), np.bool_)
    seconds = np.zeros(len(stream))
    with tempfile.TemporaryDirectory() as folder:
        cache = TieredCache(config, "measured", open_store(config, Path(folder) / "cache.db"))
        await cache.start()
        for number, request in enumerate(stream):
            started = time.perf_counter()
            hit = await cache.get(request.ask, [_MODEL])
            seconds[number] = time.perf_counter() - started
            if hit is None:
                cache.put(request.ask, _MODEL, request.right)
                await asyncio.sleep(0)  # its answer would have taken a while: the store is written meanwhile
            else:
                how[number] = 1 if hit.how == "exact" else 2
                false[number] = hit.result.text != request.right.text
        await cache.aclose()
    tokens = np.array([request.right.prompt_tokens + request.right.completion_tokens for request in stream])
    kinds = np.array([request.kind for request in stream])
    parts = {name: _part(how == code, false, seconds, tokens, kinds) for name, code in (("exact", 1), ("semantic", 2))}
    hits = how > 0
    return {
        "requests": len(stream),
        "hit_rate": float(hits.mean()),
        "false_hit_rate": float(false[hits].mean()) if hits.any() else 0.0,
        "tokens_saved": int(tokens[hits].sum()),
        "tokens_asked": int(tokens.sum()),
        "miss_p50_ms": float(np.median(seconds[~hits]) * 1e3),
        **parts,
    }


def _part(
    mine: npt.NDArray[np.bool_],
    false: npt.NDArray[np.bool_],
    seconds: npt.NDArray[np.float64],
    tokens: IntArray,
    kinds: IntArray,
) -> dict[str, Any]:
    hits, wrong = int(mine.sum()), int(false[mine].sum())
    return {
        "hit_rate": float(mine.mean()),
        "hits": hits,
        "false_hit_rate": wrong / hits if hits else 0.0,
        "false_hit_upper": upper_bound(hits, wrong),
        "false_hit_upper_by_type": _by_type(kinds[mine], false[mine]),
        "tokens_saved": int(tokens[mine].sum()),
        "p50_ms": float(np.percentile(seconds[mine], 50) * 1e3) if hits else None,
        "p99_ms": float(np.percentile(seconds[mine], 99) * 1e3) if hits else None,
    }


def _by_type(kinds: IntArray, false: npt.NDArray[np.bool_]) -> float:
    """95th percentile of the false share when types are drawn anew, with all their requests (cluster bootstrap)."""
    if not len(kinds):
        return 1.0
    _, kind = np.unique(kinds, return_inverse=True)
    hits, wrong = np.bincount(kind), np.bincount(kind, weights=false)
    rng = np.random.default_rng(_SEED)
    drawn = rng.integers(0, len(hits), (_RESAMPLES, len(hits)))
    return float(np.quantile(wrong[drawn].sum(axis=1) / hits[drawn].sum(axis=1), _CONFIDENCE))
