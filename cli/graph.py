"""``tandem graph``: questions to the knowledge graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import (
    JsonOption,
    UsageError,
)

if TYPE_CHECKING:
    pass

graph_app = typer.Typer(no_args_is_help=True, help="Ask the knowledge graph.")

OntologyOption = Annotated[str, typer.Option("--ontology", help="family, generic or grocery.")]
FactsOption = Annotated[Path | None, typer.Option("--facts", help="More facts: TSV a<TAB>relation<TAB>b, or CSV.")]
AssertOption = Annotated[list[str] | None, typer.Option("--assert", help="A fact, e.g. 'daughter(malia, obama)'.")]


@graph_app.command("query")
def graph_query(
    pattern: Annotated[str, typer.Argument(help="predicate(arg, ?variable).")],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    as_json: JsonOption = False,
) -> None:
    """All facts that match a pattern.

    Example: tandem graph query 'category_contains(CHEESES, ?x)'
    """
    graph = _graph(ontology, facts, asserted)
    found = graph.query(_fact(pattern))
    if as_json:
        print(json.dumps({"facts": [{"predicate": fact.predicate, "args": list(fact.args)} for fact in found]}))
        return
    for fact in found:
        print(fact)


@graph_app.command("explain")
def graph_explain(
    fact: Annotated[str, typer.Argument(help="predicate(arg, arg).")],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    form: Annotated[str, typer.Option("--format", help="text or dot.")] = "text",
) -> None:
    """The proof of a fact, down to what was asserted.

    Example: tandem graph explain 'daughter(sasha, obama)' --ontology family
    --assert 'daughter(malia, obama)' --assert 'full_sister(sasha, malia)'
    """
    from graph.view import proof_graph, to_dot

    proof = _graph(ontology, facts, asserted).prove(_fact(fact))
    if form not in ("text", "dot"):
        raise UsageError(f"there is no format {form!r}; choose text or dot")
    print(to_dot(proof_graph(proof)) if form == "dot" else "\n".join(proof.lines()))


def _graph(ontology: str, facts: Path | None, asserted: list[str] | None) -> Any:
    from graph.ontology import load, load_facts

    graph = load(ontology)
    if facts is not None:
        graph = graph.extend(load_facts(facts), facts.name)
    if asserted:
        graph = graph.extend([_fact(text) for text in asserted], "command line")
    return graph


def _fact(text: str) -> Any:
    from graph.ports import Fact

    name, bracket, rest = text.strip().partition("(")
    if not bracket or not rest.endswith(")") or not name:
        raise UsageError(f"{text!r} is no fact; write predicate(argument, argument)")
    return Fact(name.strip(), tuple(part.strip().strip("\"'") for part in rest[:-1].split(",")))
