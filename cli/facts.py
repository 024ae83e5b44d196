"""``tandem graph`` on files of facts and rules, and facts for the running service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    err,
    progress_bar,
)

if TYPE_CHECKING:
    from graph.engine import RuleGraph, Table
    from graph.errors import RuleSyntaxError
    from graph.exchange import Statement
    from graph.ports import Fact

OntologyOption = Annotated[
    str,
    typer.Option("--ontology", help="family, generic, grocery, ..., a folder of rules and tables, or a .rules file."),
]
FactsOption = Annotated[
    list[Path] | None, typer.Option("--facts", help="More facts: tsv, csv, parquet, ttl or json; repeatable.")
]
_DATASETS: Final = ("family", "openfoodfacts", "grocery")
_PACKAGED: Final = "packaged"
"""Stands for the folder of The Complete Journey's package."""
_AT_ONCE: Final = 1_000
"""Facts of one call; the service's own limit may be lower."""
_SHOWN: Final = 20
"""Facts that do not fit their declarations which one error lists."""
AssertOption = Annotated[list[str] | None, typer.Option("--assert", help="A fact, e.g. 'daughter(malia, obama)'.")]


def export(
    output: Annotated[Path, typer.Argument(help="The file; its ending says the format.")],
    predicates: Annotated[list[str] | None, typer.Argument(help="Which facts; default: all.")] = None,
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="asserted, derived or predicted; repeatable; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write facts of a graph with their kinds, sources and rules: tsv, csv, parquet, ttl (RDF Turtle) or json.

    Example: tandem graph export daughters.ttl daughter --ontology family --facts family.tsv
    """
    from graph import exchange
    from graph.rules.syntax import is_predicted, predicted

    exchange.format_of(output)
    graph = load_graph(ontology, facts, asserted)
    declared = graph.program.declarations
    unknown = [name for name in predicates or () if name not in declared]
    if unknown:
        raise UsageError(f"the ontology declares no predicate {unknown[0]!r}; leave it out or correct it")
    wrong = [name for name in kind or () if name not in exchange.KINDS]
    if wrong:
        raise UsageError(f"there is no kind {wrong[0]!r} of facts; choose of {', '.join(exchange.KINDS)}")
    arities = {name: len(declared[name].names) for name in predicates or declared}
    # What models predict of a predicate stands apart from it, and is its all the same.
    arities |= {predicted(name): count for name, count in arities.items() if not is_predicted(name)}
    told = exchange.statements_of(graph, arities, kind or exchange.KINDS)  # type: ignore[arg-type]
    exchange.write(output, told)
    _report({"file": str(output), "facts": len(told)}, f"{len(told):,} facts in {output}", as_json)


def convert(
    source: Annotated[Path, typer.Argument(help="Facts: tsv, csv, parquet, ttl or json.")],
    output: Annotated[Path, typer.Argument(help="The file; its ending says the format.")],
    as_json: JsonOption = False,
) -> None:
    """Facts of one format in another: nothing is derived, nothing is lost.

    Example: tandem graph convert family.tsv family.parquet
    """
    from graph import exchange

    told = exchange.read(source)
    exchange.write(output, told)
    _report({"file": str(output), "facts": len(told)}, f"{len(told):,} facts in {output}", as_json)


def assert_facts(
    source: Annotated[str, typer.Option("--source", help="Who says so: a service, a person; proofs show it.")],
    asserted: Annotated[list[str] | None, typer.Argument(help='predicate(name, "Any name").')] = None,
    facts: FactsOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Tell the running service facts: it obeys them at once, and keeps them over restarts.

    Example: tandem graph assert 'contains("1082185", dairy)' --source kitchen
    Example: tandem graph assert --facts contents.csv --source "supplier list"
    """
    from protos.tandem.v1 import graph_pb2
    from serving.factmessages import fact_message

    told = [graph_pb2.Assertion(fact=fact_message(read_one(text, ground=True))) for text in asserted or ()]
    for each in _importable(facts):
        told.append(graph_pb2.Assertion(fact=fact_message(each.fact), probability=each.probability))
    if not told:
        raise UsageError("no fact is given; write one, or name a file with --facts")
    recorded = unchanged = 0
    with connected(workspace, target) as client:
        for first in range(0, len(told), _AT_ONCE):
            reply = client.assert_facts(told[first : first + _AT_ONCE], source)
            recorded, unchanged = recorded + reply.recorded, unchanged + reply.unchanged
    _report(
        {"recorded": recorded, "unchanged": unchanged},
        f"{recorded:,} facts recorded, {unchanged:,} were known from {source}",
        as_json,
    )


def retract_facts(
    retracted: Annotated[list[str], typer.Argument(help='predicate(name, "Any name").')],
    source: Annotated[str, typer.Option("--source", help="Only what this source asserted.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Take back facts that the running service was told. Facts nobody told it are named, and the exit code is 1.

    Example: tandem graph retract 'contains("1082185", dairy)'
    """
    from graph.patterns import fact_text
    from serving.factmessages import fact_message, fact_of

    with connected(workspace, target) as client:
        reply = client.retract_facts([fact_message(read_one(text, ground=True)) for text in retracted], source)
    unknown = [fact_of(message) for message in reply.unknown]
    for fact in unknown:
        err.print(f"nobody asserted {fact_text(fact)}, and it does not hold", highlight=False, markup=False)
    rows = [{"predicate": fact.predicate, "args": list(fact.args)} for fact in unknown]
    _report({"retracted": reply.retracted, "unknown": rows}, f"{reply.retracted:,} facts retracted", as_json)
    if unknown:
        raise typer.Exit(1)


def check(
    what: Annotated[
        list[str], typer.Argument(help="Rules files, or one folder of an ontology, or a shipped one's name.")
    ],
    facts: FactsOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of real data for family, openfoodfacts or grocery ('packaged')."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Disagreements with the data to show; --json has all.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Every fault of rules at once, with file, line and column; then the constraints that facts break, with proofs.

    With --data, what an ontology derives from real data beside what the data state. Exit code 1 where something is
    wrong.

    Example: tandem graph check my_ontology/ --facts stock.csv
    Example: tandem graph check openfoodfacts --data ../shared/data/openfoodfacts
    Example: tandem graph check grocery --data packaged
    """
    if data is not None:
        _check_data(what, data, limit, as_json)
        return
    from graph.errors import RuleSyntaxError
    from graph.patterns import fact_text

    try:
        graph = _checked(what, facts)
    except RuleSyntaxError as error:
        _show_problems(error, as_json)
        raise typer.Exit(1) from None
    counts = {"predicates": len(graph.program.declarations), "rules": len(graph.program.rules), "facts": len(graph)}
    violations = graph.violations()
    if as_json:
        rows = [
            {
                "predicate": fact.predicate,
                "args": list(fact.args),
                "message": text,
                "proof": list(proof.lines(spelt=fact_text)),
            }
            for fact, text, proof in violations
        ]
        print(json.dumps({"problems": [], **counts, "violations": rows}))
    else:
        for fact, text, proof in violations:
            print(f"{fact_text(fact)}: {text}")
            print("\n".join(proof.lines(1, fact_text)))
        shown = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        print(f"{len(violations):,} violations; {shown}" if violations else f"ok: {shown}")
    if violations:
        raise typer.Exit(1)


def _check_data(what: Sequence[str], data: Path, limit: int, as_json: bool) -> None:
    if len(what) != 1 or what[0] not in _DATASETS:
        raise UsageError(f"--data checks one of {', '.join(_DATASETS)}; name one of them, not {', '.join(what)}")
    if what[0] == "grocery" and data == Path(_PACKAGED):
        from training.datasets.complete_journey import data_folder

        data = data_folder()
    if not data.is_dir():
        raise UsageError(f"--data {data} is no folder; give the one that holds {what[0]}'s files")
    from graph import check as checks

    with progress_bar(f"check {what[0]}", as_json) as progress:
        report = checks.CHECKS[what[0]](data, progress)
    print(json.dumps(report.as_json()) if as_json else "\n".join(report.lines(limit)))
    if not report.ok:
        raise typer.Exit(1)


def _checked(what: Sequence[str], facts: Sequence[Path] | None) -> RuleGraph:
    """The closure of one ontology, or of rules files read as one program. Raises RuleSyntaxError with every problem."""
    from graph.ontology import known_ontologies

    paths = [Path(each) for each in what]
    if len(what) == 1 and (what[0] in known_ontologies() or paths[0].is_dir()):
        return load_graph(what[0], facts, None)
    wrong = [path for path in paths if not path.is_file()]
    if wrong:
        raise UsageError(
            f"{wrong[0]} is no rules file, and none of {', '.join(known_ontologies())}; give files, or one folder"
        )
    return _told(_of_files(paths), _importable(facts))


def _of_files(paths: Sequence[Path]) -> RuleGraph:
    """The closure of rules files read as one program. Raises RuleSyntaxError with every problem."""
    from graph.engine import RuleGraph
    from graph.rules.reader import parse_all

    try:
        texts = [(str(path), path.read_text(encoding="utf-8")) for path in paths]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"a rules file cannot be read ({error}); give UTF-8 text") from error
    return RuleGraph.build(parse_all(texts))


def _show_problems(error: RuleSyntaxError, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"problems": [asdict(problem) for problem in error.problems]}))
        return
    for problem in error.problems:
        print(problem)
    print(f"{len(error.problems):,} problems")


def load_graph(ontology: str, facts: Sequence[Path] | None, asserted: Sequence[str] | None) -> RuleGraph:
    """The ontology with facts of files, each with its source, and of the command line."""
    from graph import exchange
    from graph.ontology import known_ontologies, load, load_folder

    path = Path(ontology)
    graph: Any
    if ontology in known_ontologies():
        graph = load(ontology)
    elif path.is_dir():
        graph = load_folder(path)
    elif path.is_file():
        graph = _of_files([path])
    else:
        raise UsageError(
            f"--ontology {ontology} is no folder, no rules file, and none of {', '.join(known_ontologies())}; "
            "correct the name"
        )
    told = _importable(facts)
    told += [exchange.Statement(read_one(text, ground=True), "asserted", "command line") for text in asserted or ()]
    return _told(graph, told)


def _importable(paths: Sequence[Path] | None) -> list[Statement]:
    from graph import exchange

    told: list[Statement] = []
    for path in paths or ():
        taken, left_out = exchange.importable(exchange.read(path))
        if left_out:
            err.print(f"{path}: {left_out:,} derived facts are left out; they are derived again", highlight=False)
        told += taken
    return told


def _told(graph: RuleGraph, told: Sequence[Statement]) -> RuleGraph:
    from graph.engine import RuleGraph

    if not told:
        return graph
    _check_fit(graph, told)
    stated = dict(graph.program.facts)
    for each in told:
        if each.kind != "predicted":
            stated.setdefault(each.fact, each.source)
    return RuleGraph.build(replace(graph.program, facts=tuple(stated.items())), tables=_predictions(told))


def _check_fit(graph: RuleGraph, told: Sequence[Statement]) -> None:
    """Raises OntologyError naming the facts that are not of the declared predicates, arguments and types."""
    from graph.errors import OntologyError
    from graph.ontology import misfits

    faults = [f"{each.source}: {fault}" for each in told for fault in misfits(graph.program, each.fact)]
    if faults:
        more = [f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
        raise OntologyError("\n".join([*faults[:_SHOWN], *more]))


def _predictions(told: Sequence[Statement]) -> list[Table]:
    """What models predict, by predicate and by who said so."""
    from graph.engine import Table

    found: dict[tuple[str, str], list[Statement]] = {}
    for each in told:
        if each.probability is not None:
            found.setdefault((each.fact.predicate, each.source), []).append(each)
    return [
        Table(
            predicate,
            tuple(zip(*(each.fact.args for each in rows))),
            source,
            [each.probability or 0.0 for each in rows],
        )
        for (predicate, source), rows in found.items()
    ]


def read_one(text: str, ground: bool = False) -> Fact:
    from graph.errors import RuleSyntaxError
    from graph.patterns import read_fact, read_pattern

    try:
        return read_fact(text) if ground else read_pattern(text)
    except RuleSyntaxError as error:
        problem = error.problems[0]
        raise UsageError(f"{text!r}, character {problem.column}: {problem.message}; {problem.remedy}") from None


def _report(fields: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(fields) if as_json else text)
