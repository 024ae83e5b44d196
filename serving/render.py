"""Replies as tables for people. `--json` prints the message instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from protos.tandem.v1 import ensemble_pb2, recommender_pb2, types_pb2

_VERDICT = {
    types_pb2.VERDICT_ACCEPT: Text("ACCEPT", style="green"),
    types_pb2.VERDICT_REVIEW: Text("REVIEW", style="yellow"),
    types_pb2.VERDICT_REJECT: Text("REJECT", style="red"),
}
_PROOFS = 3


def recommendation(reply: recommender_pb2.RecommendReply, label: str = "category") -> RenderableType:
    """Items with source, decider, reasons; then facts with proofs, and how the reply came about.

    ``label``: the attribute shown beside the title. Columns that say nothing of any item are left out.
    """
    if not any(label in item.attributes for item in reply.items):
        label = "category"
    named = any(item.title != item.item_id for item in reply.items)
    rows = [
        (
            ("#", Text(str(place))),
            ("item", Text(item.item_id)),
            # A catalog without titles has ids in their place.
            ("title", Text(item.title if named else "")),
            (label, Text(item.attributes.get(label, ""))),
            ("score", Text(f"{item.score:.3f}")),
            ("proposed by", Text(", ".join(item.sources))),
            ("decided by", Text(item.decided_by)),
            ("guardrail", _judged(item)),
            ("reasons", Text(_reasons(item.reasons))),
        )
        for place, item in enumerate(reply.items, 1)
    ]
    table = Table(title=f"path: {reply.path}", title_justify="left", expand=False)
    columns = [column for column in zip(*rows) if any(cell.plain for _, cell in column)]
    for name in [column[0][0] for column in columns] or ["#", "item", "score"]:
        table.add_column(Text(name), overflow="fold", no_wrap=name in ("#", "score"))
    for cells in zip(*columns):
        table.add_row(*(cell for _, cell in cells))
    parts: list[RenderableType] = [table]
    if reply.facts:
        parts.append(_proofs("derived from the words", reply.facts))
    shown = [fact for item in reply.items for fact in item.facts][:_PROOFS]
    if shown:
        parts.append(_proofs(f"facts about items (first {len(shown)})", shown))
    if reply.shortfall:
        parts.append(Text(f"fewer items than asked for: {reply.shortfall}", style="yellow"))
    if reply.unknown_items:
        parts.append(Text(f"items the catalog does not know: {', '.join(reply.unknown_items)}", style="yellow"))
    parts.append(_footer(reply.release, reply.stages, reply.degraded, reply.usage))
    return Group(*parts)


def _judged(item: recommender_pb2.RecommendedItem) -> Text:
    if not item.HasField("guardrail"):
        return Text("")
    return Text.assemble(_VERDICT.get(item.guardrail.verdict, Text("")), f" {item.guardrail.probability:.3f}")


def tags(reply: recommender_pb2.TagReply) -> RenderableType:
    """Tags with verdict, evidence and reasons; then proofs, and how the reply came about."""
    title = "abstained: no tag is certain enough" if reply.abstained else "tags"
    table = Table(title=title, title_justify="left")
    for column in (
        "tag",
        "verdict",
        "probability",
        "proposed by",
        "decided by",
        "LLM logprob",
        "evidence",
        "certificate",
        "reasons",
    ):
        table.add_column(column, overflow="fold")
    for tag in reply.tags:
        evidence = f"{tag.evidence.field}[{tag.evidence.start}:{tag.evidence.end}]" if tag.HasField("evidence") else ""
        table.add_row(
            tag.tag,
            _VERDICT.get(tag.verdict, Text("")),
            f"{tag.probability:.3f}",
            ", ".join(tag.sources),
            tag.decided_by,
            f"{tag.llm_logprob:.2f}" if tag.HasField("llm_logprob") else "",
            evidence,
            _certificate(tag.certificate) if tag.HasField("certificate") else "",
            _reasons(tag.reasons),
        )
    parts: list[RenderableType] = [table]
    if reply.attributes:
        parts.append(_values(reply.attributes))
    facts = [fact for tag in reply.tags for fact in tag.facts]
    if facts:
        parts.append(_proofs("facts", facts[:_PROOFS]))
    parts.append(_footer(reply.release, reply.stages, reply.degraded, reply.usage))
    return Group(*parts)


def _values(values: Iterable[recommender_pb2.AttributeValue]) -> RenderableType:
    table = Table(title="attributes", title_justify="left")
    for column in ("attribute", "value", "verdict", "probability", "proposed by", "evidence", "certificate"):
        table.add_column(column, overflow="fold")
    for value in values:
        span = value.evidence
        table.add_row(
            value.attribute,
            Text(value.value),
            _VERDICT.get(value.verdict, Text("")),
            f"{value.probability:.3f}",
            ", ".join(value.sources),
            f"{span.field}[{span.start}:{span.end}]",
            _certificate(value.certificate),
        )
    return table


def judgements(reply: ensemble_pb2.ScoreReply) -> RenderableType:
    """One line a claim."""
    table = Table(title="judgements", title_justify="left")
    for column in ("claim", "verdict", "probability", "decided by", "certificate", "reasons"):
        table.add_column(column, overflow="fold")
    for number, judgement in enumerate(reply.judgements):
        table.add_row(
            str(number),
            _VERDICT.get(judgement.verdict, Text("")),
            f"{judgement.probability:.3f}",
            judgement.decided_by,
            _certificate(judgement.certificate) if judgement.HasField("certificate") else "",
            _reasons(judgement.reasons),
        )
    parts: list[RenderableType] = [table]
    facts = [fact for judgement in reply.judgements for fact in judgement.facts]
    if facts:
        parts.append(_proofs("facts", facts[:_PROOFS]))
    parts.append(_footer(reply.release, reply.stages, reply.degraded, None))
    return Group(*parts)


def proof_tree(proof: types_pb2.Proof, parent: Tree | None = None) -> Tree:
    """A proof as a tree: what is proven above what proves it."""
    why = f"[{proof.rule}]" if proof.rule else f"({proof.source})"
    label = Text.assemble((f"{proof.predicate}({', '.join(proof.args)})", "bold"), f"  {why}")
    node = Tree(label) if parent is None else parent.add(label)
    for premise in proof.premises:
        proof_tree(premise, node)
    for condition in proof.conditions:
        node.add(Text(condition, style="dim"))
    return node


def show(part: RenderableType, width: int | None = None) -> None:
    """Print on standard output; a pipe gets 160 columns rather than a terminal's width."""
    console = Console(width=width)
    if not console.is_terminal and width is None:
        console = Console(width=160)
    console.print(part)


def _reasons(reasons: Sequence[types_pb2.Reason]) -> str:
    return ", ".join(f"{reason.feature} {reason.contribution:+.2f}" for reason in reasons[:3])


def _certificate(certificate: types_pb2.Certificate) -> str:
    if certificate.reason:
        return certificate.reason
    return (
        f"{certificate.precision:.0%} right with {certificate.confidence:.0%} confidence: {certificate.wrong} of "
        f"{certificate.accepted} held-out types wrong from {certificate.threshold:.3f} on ({certificate.evidence})"
    )


def _proofs(title: str, proofs: Iterable[types_pb2.Proof]) -> Tree:
    tree = Tree(Text(title, style="italic"))
    for proof in proofs:
        proof_tree(proof, tree)
    return tree


def _footer(
    release: str,
    stages: Sequence[types_pb2.Stage],
    degraded: Sequence[types_pb2.Degradation],
    usage: types_pb2.Usage | None,
) -> Text:
    lines = [f"release {release}   " + "  ".join(f"{stage.name} {stage.ms:.1f} ms" for stage in stages)]
    if usage is not None:
        called = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, cost {usage.cost:.4f}, {usage.model}"
        lines.append(
            f"LLM: {'from the cache, ' + usage.model if usage.cached else called if usage.model else 'not called'}"
        )
    lines += [f"degraded: {part.stage}: {part.cause}" for part in degraded]
    return Text("\n".join(lines), style="dim")
