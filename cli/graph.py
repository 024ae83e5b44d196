"""``tandem graph``: questions to the knowledge graph, on a disk or in the running service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import facts as files
from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    err,
)
from cli.facts import AssertOption, FactsOption, OntologyOption, load_graph, read_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graph.engine import RuleGraph
    from graph.ports import Proof

graph_app = typer.Typer(no_args_is_help=True, help="Ask the knowledge graph.")

LiveOption = Annotated[bool, typer.Option("--live", help="Ask the running service instead: see --target.")]
FormOption = Annotated[str, typer.Option("--format", help="text, dot or svg.")]
ViaOption = Annotated[
    list[str] | None, typer.Option("--via", help="Follow this two-place predicate only; repeatable; default: all.")
]


@graph_app.command("query")
def graph_query(
    pattern: Annotated[
        str, typer.Argument(help='predicate(name, "Any name", ?variable), or several literals as a rule has them.')
    ],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    live: LiveOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """All facts that match a pattern, spelt so that explain takes them; or all answers to several literals.

    Several literals, a 'not' or a comparison are written as the body of a rule: there a capital letter begins a
    variable (or all of them begin with '?'), and a capitalised name is quoted.

    Example: tandem graph query 'category_contains(CHEESES, ?x)'
    Example: tandem graph query --live 'contains(?item, alcohol)'
    Example: tandem graph query 'category_contains(X, dairy), not category_contains(X, fish), X != "CHEESES"'
    """
    from graph.patterns import fact_text
    from graph.rules.question import is_question

    if is_question(pattern):
        graph = None if live else load_graph(ontology, facts, asserted)
        _show_answers(*_answers(pattern, graph, workspace, target), as_json)
        return
    asked = read_one(pattern)
    if live:
        from serving.factmessages import fact_message, fact_of

        with connected(workspace, target) as client:
            found = [fact_of(message) for message in client.facts(fact_message(asked), page_size=0)]
    else:
        found = load_graph(ontology, facts, asserted).query(asked)
    if as_json:
        print(json.dumps({"facts": [{"predicate": fact.predicate, "args": list(fact.args)} for fact in found]}))
        return
    if not found:
        err.print(f"no fact matches {fact_text(asked)}", highlight=False, markup=False, soft_wrap=True)
    for fact in found:
        print(fact_text(fact))


def _answers(
    text: str, graph: RuleGraph | None, workspace: Path, target: str
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Variables of a question and its answers: of this graph, of the running service where it is None."""
    if graph is None:
        with connected(workspace, target) as client:
            return client.answers(text, page_size=0)
    from graph.errors import RuleSyntaxError
    from graph.rules.question import read_question

    try:
        question = read_question(text, graph.program)
    except RuleSyntaxError as error:
        raise UsageError("\n".join(map(str, error.problems))) from None
    return [name.removeprefix("?") for name in question.variables], graph.answers(question)


def _show_answers(variables: Sequence[str], answers: Sequence[Sequence[str]], as_json: bool) -> None:
    from graph.rules.syntax import term_text

    if as_json:
        print(json.dumps({"variables": list(variables), "answers": list(map(list, answers))}))
        return
    if not answers:
        err.print("no answer", highlight=False, markup=False)
    for answer in answers:
        told = ", ".join(f"{name} = {term_text(value)}" for name, value in zip(variables, answer))
        print(told or "it holds")


@graph_app.command("explain")
def graph_explain(
    fact: Annotated[str, typer.Argument(help='predicate(name, "Any name").')],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    form: FormOption = "text",
    live: LiveOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """The proof of a fact, down to what was asserted: as text, as DOT for Graphviz, or as a picture.

    Example: tandem graph explain 'daughter(sasha, obama)' --ontology family
    --assert 'daughter(malia, obama)' --assert 'full_sister(sasha, malia)'
    Example: tandem graph explain 'category_contains(CHEESES, dairy)' --format svg > proof.svg
    """
    _check_form(form)
    asked = read_one(fact, ground=True)
    if live:
        from serving.factmessages import fact_message, proof_of

        with connected(workspace, target) as client:
            proof = proof_of(client.explain(fact_message(asked)).steps)
    else:
        proof = load_graph(ontology, facts, asserted).prove(asked)
    print(json.dumps(_as_json(proof)) if as_json else _shown(proof, form), end="" if form != "text" else "\n")


@graph_app.command("path")
def graph_path(
    start: Annotated[str, typer.Argument(help="A name.")],
    end: Annotated[str, typer.Argument(help="Another name.")],
    ontology: OntologyOption = "family",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    via: ViaOption = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many paths, shortest first.")] = 1,
    proofs: Annotated[bool, typer.Option("--proofs", help="Show the proof of every derived hop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How two things are related: the shortest chain of two-place facts, followed both ways.

    Example: tandem graph path malia michelle --ontology family --assert 'daughter(malia, obama)'
    --assert 'wife(michelle, obama)'
    """
    from graph.paths import paths
    from graph.patterns import fact_text

    graph = load_graph(ontology, facts, asserted)
    found = paths(graph, start, end, via or _two_place(graph), most)
    if as_json:
        rows = [[{**_row(hop.proof), "forward": hop.forward} for hop in path] for path in found]
        print(json.dumps({"paths": rows}))
        return
    for number, path in enumerate(found):
        if number:
            print()
        for hop in path:
            print(hop)
            if proofs and hop.proof.rule is not None:
                print("\n".join(hop.proof.lines(2, fact_text)))


@graph_app.command("draw")
def graph_draw(
    predicates: Annotated[list[str] | None, typer.Argument(help="Two-place predicates; default: all.")] = None,
    ontology: OntologyOption = "family",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    form: Annotated[str, typer.Option("--format", help="dot or svg.")] = "svg",
) -> None:
    """Two-place facts as a picture: a box a thing, a line a fact.

    Example: tandem graph draw daughter wife --ontology family --assert 'daughter(malia, obama)' > family.svg
    """
    from graph.picture import facts_svg
    from graph.ports import Fact
    from graph.view import facts_graph, to_dot

    if form not in ("dot", "svg"):
        raise UsageError(f"there is no format {form!r}; choose dot or svg")
    graph = load_graph(ontology, facts, asserted)
    wanted = predicates or _two_place(graph)
    if form == "dot":
        print(to_dot(facts_graph(graph, wanted)), end="")
        return
    print(facts_svg(fact for name in wanted for fact in graph.query(Fact(name, ("?from", "?to")))), end="")


def _two_place(graph: RuleGraph) -> list[str]:
    return [name for name, each in graph.program.declarations.items() if len(each.names) == 2]


def _check_form(form: str) -> None:
    if form not in ("text", "dot", "svg"):
        raise UsageError(f"there is no format {form!r}; choose text, dot or svg")


def _shown(proof: Proof, form: str) -> str:
    if form == "svg":
        from graph.picture import proof_svg

        return proof_svg(proof)
    if form == "dot":
        from graph.view import proof_graph, to_dot

        return to_dot(proof_graph(proof))
    from graph.patterns import fact_text

    return "\n".join(proof.lines(spelt=fact_text))


def _row(proof: Proof) -> dict[str, Any]:
    """A fact of a proof as JSON shows it."""
    row: dict[str, Any] = {"predicate": proof.fact.predicate, "args": list(proof.fact.args)}
    row |= {"rule": proof.rule, "source": proof.source}
    if proof.probability is not None:
        row["probability"] = proof.probability
    if proof.absent:
        row["absent"] = [{"predicate": fact.predicate, "args": list(fact.args)} for fact in proof.absent]
    if proof.aggregates:
        row["aggregates"] = list(proof.aggregates)
    return row


def _as_json(proof: Proof) -> dict[str, Any]:
    """Every fact once, premises before what they prove; ``premises`` are places in the list. The last is the goal."""
    from graph.steps import steps

    return {"steps": [{**_row(each), "premises": list(premises)} for each, premises in steps(proof)]}


for name, command in (
    ("check", files.check),
    ("export", files.export),
    ("convert", files.convert),
    ("assert", files.assert_facts),
    ("retract", files.retract_facts),
):
    graph_app.command(name)(command)
