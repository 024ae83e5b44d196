"""The report as one HTML file: no script, no font, no picture from anywhere else. Light and dark follow the reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from training.report import svg
from training.report.build import SYSTEM
from training.report.table import (
    COLUMNS,
    SPLITS,
    TITLES,
    bias_sentence,
    gain_sentence,
    new_items_sentence,
    number,
    place_sentence,
    span,
    tags_sentence,
)

_FEATURES: Final = 20
_DASHES: Final = ("none", "6 3", "2 3", "8 3 2 3", "1 4", "12 4", "10 2 2 2 2 2", "4 6")
STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --rule: #d8dee4; --plain: #4a6785;
  --strong: #b3400f; --l0: #4a6785; --l1: #2f7d4f; --l2: #7d4fa3; --l3: #8a6d00; --l4: #0f7c86; --l5: #a33b6b;
  --l6: #5d5d5d; --l7: #2456c7; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6eaef; --soft: #9aa5b1; --rule: #333b45;
  --plain: #8fb0d3; --strong: #ff9a66; --l0: #8fb0d3; --l1: #7fd0a0; --l2: #c9a2f0; --l3: #e3c34f; --l4: #6fd3dd;
  --l5: #f29bc1; --l6: #b5b5b5; --l7: #86aaff; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; } p { max-width: 46rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding: .25rem 0; } th, td { padding: .3rem .7rem; text-align: right;
  border-bottom: 1px solid var(--rule); white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; } tr.strong * { font-weight: 700; color: var(--strong); }
svg { width: 100%; height: auto; display: block; margin: .5rem 0 1rem; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick, svg .axis, svg .value { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--rule); } svg .zero { stroke: var(--ink); } svg .span { stroke-width: 2.5; }
svg .plain { stroke: var(--plain); fill: var(--plain); } svg .strong { stroke: var(--strong); fill: var(--strong); }
svg text.strong { stroke: none; font-weight: 700; } svg polyline { stroke-width: 2; }
svg polyline.strong { stroke-width: 3.5; } svg text.end { stroke: none; font-size: 12px; }
""" + "".join(
    f"svg .line{n} {{ stroke: var(--l{n}); fill: var(--l{n}); }} svg polyline.line{n} {{ stroke-dasharray: {dash}; }}\n"
    for n, dash in enumerate(_DASHES)
)


def render(result: Mapping[str, Any]) -> str:
    """The page. ``result`` as `training.report.run.evaluate_ranking` returns it."""
    body = [_head(result)]
    for name, protocol in result["protocols"].items():
        body.append(f"<h2>{TITLES[name]}</h2>")
        if "skipped" in protocol:
            body.append(f"<p>Not run: {escape(protocol['skipped'])}.</p>")
        else:
            body.append(_protocol(name, protocol))
            if name in result["tags"]:
                body.append(f"<p>{escape(tags_sentence(result['tags'][name]))}</p>")
            if name in result["place"]:
                body.append(f"<p>{escape(place_sentence(result['place'][name]))}</p>")
    body += [_buckets(result["buckets"]), _bias(result), _beyond(result), _importance(result), _run(result)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Tandem: ranking, {escape(str(result.get('dataset', '')))}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(result: Mapping[str, Any]) -> str:
    told = "" if result["gain"] is None else f"<p><strong>{escape(gain_sentence(result['gain']))}</strong></p>"
    return (
        f"<h1>Ranking: {SYSTEM} and its baselines</h1>"
        f'<p class="soft">Dataset {escape(str(result.get("dataset", "")))}, '
        f"data {escape(result['data_hash'][:12])}, code {escape(result['revision'][:18])}, seed {result['seed']}; "
        f"{'bought items are shown again' if result['repeats'] else 'items a user had are not shown again'}.</p>{told}"
    )


_ABOUT: Final = {
    "next_basket": "Each user's last basket is predicted from all before it; other users' events count only up to that "
    "moment. The basket before it chose the parameters.",
    "next_items": "The newest tenth of what each user had is predicted from all before it; other users' events count "
    "only up to the moment it began. The tenth before it chose the parameters. What is had once is no basket.",
    "temporal": "What everybody gets in the days after one date, from what came before that date.",
}


def _protocol(name: str, protocol: Mapping[str, Any]) -> str:
    facts = protocol["facts"]
    told = f"{protocol['targets']:,} targets, {facts['history_items']:,} items in their histories"
    if facts["mean_target"] is not None:
        told += f", {facts['mean_target']:.1f} items a target, {facts['repeat_share']:.1%} of them had before"
    table = data_table(
        "Means over targets. Repeat and explore count only such items of a target.",
        ("model", *COLUMNS, *SPLITS),
        (
            (model, [number(values[column]) for column in (*COLUMNS, *SPLITS)], model == SYSTEM)
            for model, values in protocol["models"].items()
        ),
    )
    lift = svg.intervals(
        f"{TITLES[name]}: lift of {SYSTEM} over each baseline",
        [
            svg.Point(
                model,
                found["mean"],
                found["low"],
                found["high"],
                f"{found['mean']:+.4f}",
                model == protocol["gain"]["best_baseline"],
            )
            for model, values in protocol["lift"].items()
            if (found := values["ndcg@10"])["mean"] is not None
        ],
        "NDCG@10 gained, with 95 % intervals (paired bootstrap over targets)",
    )
    tuned = "; ".join(
        f"{model}: " + ", ".join(f"{key} {value}" for key, value in entry["parameters"].items())
        for model, entry in protocol["tuned"].items()
        if entry["tried"]
    )
    return (
        f"<p>{_ABOUT[name]} {told}.</p>{table}<p>{escape(gain_sentence(protocol['gain']))}</p>"
        f"<h3>Lift over the baselines</h3>{lift}"
        f'<p class="soft">Chosen on validation: {escape(tuned or "nothing to choose")}.</p>{_new_items(protocol)}'
        f"{_newcomers(protocol)}"
    )


def _new_items(protocol: Mapping[str, Any]) -> str:
    found = protocol["new_items"]
    if found is None:
        return ""
    table = data_table(
        f"Means over the {found['targets']} targets that want something their user never had.",
        ("model", *COLUMNS),
        (
            (model, [number(values[column]) for column in COLUMNS], model == SYSTEM)
            for model, values in found["models"].items()
        ),
    )
    return (
        "<h3>Asked for new items</h3><p>The lists above are mostly repeats: their explore column counts how many new "
        "items they hold. Here every model is asked for items the user never had, baselines tuned for that on "
        f"validation.</p>{table}<p>{escape(new_items_sentence(found))}</p>"
    )


def _newcomers(protocol: Mapping[str, Any]) -> str:
    found = protocol.get("without_history")
    if not found:
        return ""
    return data_table(
        f"Users without any history: {found['targets']} targets",
        ("model", "recall@10", "ndcg@10", "phr@10"),
        (
            (model, [number(values[column]) for column in ("recall@10", "ndcg@10", "phr@10")], model == SYSTEM)
            for model, values in found["models"].items()
        ),
    )


def _buckets(buckets: Sequence[Mapping[str, Any]]) -> str:
    if not buckets:
        return ""
    models = list(buckets[0]["models"])
    plot = svg.lines(
        "NDCG@10 by history length",
        [bucket["baskets"] for bucket in buckets],
        [
            svg.Line(model, [bucket["models"][model]["ndcg@10"] for bucket in buckets], model == SYSTEM)
            for model in models
        ],
        f"{buckets[0]['unit']} of history",
    )
    table = data_table(
        "Gain over the best baseline of each length, in NDCG@10",
        (buckets[0]["unit"], SYSTEM, "best baseline", "its NDCG@10", "gain"),
        (
            (
                bucket["baskets"],
                [
                    number(bucket["models"][SYSTEM]["ndcg@10"]),
                    best := bucket["gain"]["best_baseline"],
                    number(bucket["models"][best]["ndcg@10"]),
                    span(bucket["gain"]["ndcg@10"]),
                ],
                False,
            )
            for bucket in buckets
        ),
    )
    return (
        f"<h2>Short histories</h2><p>The same {buckets[0]['targets']:,} targets at every length, with only their "
        f"newest {buckets[0]['unit']} to be seen; nothing is fitted again.</p>{plot}{table}"
    )


def _bias(result: Mapping[str, Any]) -> str:
    found = result.get("slices") or {}
    if not found:
        return ""
    parts = [f"<h2>Who is served how well</h2><p>{escape(bias_sentence(result))}</p>"]
    worst = result["worst_slice"] or {}
    for attribute, values in found.items():
        points = [
            svg.Point(
                f"{value} ({entry['n']})",
                entry["mean"],
                entry["low"],
                entry["high"],
                f"{entry['mean']:.4f}",
                (attribute, value) == (worst.get("attribute"), worst.get("value")),
            )
            for value, entry in values.items()
            if entry["mean"] is not None
        ]
        title = attribute.replace("_", " ")
        parts.append(f"<h3>{escape(title)}</h3>")
        parts.append(svg.intervals(f"NDCG@10 by {title}", points, "NDCG@10 with 95 % intervals (targets)", zero=False))
    return "".join(parts)


def _beyond(result: Mapping[str, Any]) -> str:
    found = result.get("beyond_accuracy") or {}
    if not found:
        return ""
    columns = list(next(iter(found.values())))
    return "<h2>Beyond accuracy</h2>" + data_table(
        "Coverage: share of the catalog anybody is shown. Diversity: share of a list's pairs in different categories. "
        "Novelty: mean self-information in bits.",
        ("model", *columns),
        ((model, [number(values[column]) for column in columns], model == SYSTEM) for model, values in found.items()),
    )


def _importance(result: Mapping[str, Any]) -> str:
    found = sorted(result["importance"].items(), key=lambda entry: -entry[1])
    total = sum(value for _, value in found)
    if not total:
        return ""
    points = [
        svg.Point(name, value / total, note=f"{value / total:.1%}") for name, value in found[:_FEATURES] if value > 0
    ]
    return (
        f"<h2>Feature importance</h2><p>Share of the total, the first {len(points)} of {len(found)} features.</p>"
        + svg.bars("Feature importance", points, "share of importance")
    )


def _run(result: Mapping[str, Any]) -> str:
    rows = [(name, [str(value)], False) for name, value in result["parameters"].items()]
    rows += [(name, [f"{value:.1f} s"], False) for name, value in result.get("seconds", {}).items()]
    return "<h2>The run</h2>" + data_table(f"Parameters of {SYSTEM}, and seconds of each step", ("name", "value"), rows)


def data_table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str], bool]]) -> str:
    """A table that scrolls by itself. ``rows``: name, cells, and whether it is the system's."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr{" class=strong" if strong else ""}><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, cells, strong in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
