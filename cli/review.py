"""``tandem review``: what people decide of tags, in the running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli import reviewfiles as files
from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    err,
    show_reply,
)

if TYPE_CHECKING:
    from protos.tandem.v1 import review_pb2

INT64_MAX: Final = 2**63 - 1
"""Cases are numbered by SQLite."""
review_app = typer.Typer(
    no_args_is_help=True, help="Decide tags the service is not sure of, and audit those it accepts."
)

CasesArgument = Annotated[list[int], typer.Argument(min=1, max=INT64_MAX, metavar="CASE...", help="Numbers of cases.")]
PersonOption = Annotated[
    str, typer.Option("--person", envvar="TANDEM_PERSON", help="Who you are; kept with your word.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with your word.")]
OverruleOption = Annotated[bool, typer.Option("--overrule", help="Say otherwise of a case that was decided.")]
GroupOption = Annotated[str, typer.Option("--group", help="Only tags of this group.")]
KindOption = Annotated[str, typer.Option("--kind", help="review or audit; default: both.")]
OldestOption = Annotated[bool, typer.Option("--oldest", help="Oldest first, instead of most uncertain first.")]


@review_app.command("list")
def list_cases(
    group: GroupOption = "",
    kind: KindOption = "",
    state: Annotated[str, typer.Option("--state", help="open, claimed, resolved or all.")] = "open",
    verdict: Annotated[str, typer.Option("--verdict", help="Resolved ones: accept, correct or reject.")] = "",
    release: Annotated[str, typer.Option("--release", help="Only what this release proposed.")] = "",
    item: Annotated[str, typer.Option("--item", help="Only this item's.")] = "",
    person: Annotated[str, typer.Option("--person", help="Only what this person holds or decided.")] = "",
    oldest: OldestOption = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Cases to show; see --page for those after them.")] = 20,
    page: Annotated[
        str, typer.Option("--page", help="next_page_token of the page before, with the same options.")
    ] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Cases of the queue, most uncertain first.

    Example: tandem review list --group GROCERY --limit 50
    Example: tandem review list --state all --item 1082185 --json
    """
    from cli import reviewtables
    from protos.tandem.v1 import review_pb2

    if verdict and state == "open":
        state = "resolved"
    wanted = _filter(group, kind, "" if state == "all" else state, verdict, oldest)
    wanted.MergeFrom(review_pb2.CaseFilter(release=release, item_id=item, person=person))
    request = review_pb2.ListCasesRequest(filter=wanted, page_size=limit, page_token=page)
    with connected(workspace, target) as client:
        show_reply(client.list_cases(request), reviewtables.cases, as_json)


@review_app.command("claim")
def claim(
    person: PersonOption,
    numbers: Annotated[
        list[int] | None, typer.Argument(min=1, max=INT64_MAX, metavar="CASE...", help="Default: the next.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many of the next cases.")] = 1,
    group: GroupOption = "",
    kind: KindOption = "",
    oldest: OldestOption = False,
    lease: Annotated[float, typer.Option(min=0, help="Seconds they are held; 0 takes the service's default.")] = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Hold cases: nobody else can decide them until the lease ends.

    Example: tandem review claim --count 10 --group GROCERY --person anna
    Example: tandem review claim 17 18 --person anna --lease 3600
    """
    from cli import reviewtables
    from protos.tandem.v1 import review_pb2

    request = review_pb2.ClaimRequest(person=person, lease_s=lease)
    if numbers:
        request.case_ids.extend(numbers)
    else:
        request.filter.CopyFrom(_filter(group, kind, "", "", oldest))
        request.count = count
    with connected(workspace, target) as client:
        reply = client.claim(request)
    if not reply.cases and not as_json:
        err.print("no open case matches")
    show_reply(reply, reviewtables.claimed, as_json)


@review_app.command("accept")
def accept(
    numbers: CasesArgument,
    person: PersonOption,
    reason: ReasonOption = "",
    overrule: OverruleOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """The items carry these tags.

    Example: tandem review accept 17 18 --person anna
    """
    _resolve(numbers, "accept", "", person, reason, overrule, workspace, target, as_json)


@review_app.command("correct")
def correct(
    number: Annotated[int, typer.Argument(min=1, max=INT64_MAX, metavar="CASE", help="Number of a case.")],
    tag: Annotated[str, typer.Argument(help="The tag the item carries instead, of the taxonomy.")],
    person: PersonOption,
    reason: ReasonOption = "",
    overrule: OverruleOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """The item carries another tag instead.

    Example: tandem review correct 17 "FLUID MILK PRODUCTS" --person anna --reason "a drink, no powder"
    """
    _resolve([number], "correct", tag, person, reason, overrule, workspace, target, as_json)


@review_app.command("reject")
def reject(
    numbers: CasesArgument,
    person: PersonOption,
    reason: ReasonOption = "",
    overrule: OverruleOption = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """The items do not carry these tags.

    Example: tandem review reject 17 --person anna --reason "vegan, so no cheese"
    """
    _resolve(numbers, "reject", "", person, reason, overrule, workspace, target, as_json)


@review_app.command("release")
def release_cases(
    numbers: CasesArgument,
    person: PersonOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Let go of claimed cases: others can take them.

    Example: tandem review release 17 --person anna
    """
    with connected(workspace, target) as client:
        released = [number for number in numbers if client.release_case(number, person).released]
    print(json.dumps({"released": released}) if as_json else f"{len(released)} of {len(numbers)} cases released")


@review_app.command("audit")
def audit(
    release: Annotated[str, typer.Option("--release", help="Default: the one that is served.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Realised precision of accepted tags by group, and which groups go to review.

    Example: tandem review audit --json
    """
    from cli import reviewtables

    with connected(workspace, target) as client:
        show_reply(client.audit(release), reviewtables.audit, as_json)


@review_app.command("reset")
def reset(
    group: Annotated[str, typer.Argument(help="A group that the audit switched to review.")],
    person: PersonOption,
    reason: Annotated[str, typer.Option("--reason", help="Why it may accept again; kept with your word.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Let a switched group accept again; its audit begins anew.

    Example: tandem review reset GROCERY --person anna --reason "retrained on the corrections"
    """
    with connected(workspace, target) as client:
        reply = client.reset_group(group, person, reason)
    print(json.dumps({"group": reply.group}) if as_json else f"{reply.group} may accept again")


def _resolve(
    numbers: list[int],
    saying: str,
    correction: str,
    person: str,
    reason: str,
    overrule: bool,
    workspace: Path,
    target: str,
    as_json: bool,
) -> None:
    from google.protobuf.json_format import MessageToDict

    from protos.tandem.v1 import review_pb2

    rows = []
    with connected(workspace, target) as client:
        for number in numbers:
            reply = client.resolve(
                review_pb2.ResolveRequest(
                    case_id=number,
                    person=person,
                    saying=_enum("verdict", review_pb2.Saying, saying),
                    correction=correction,
                    reason=reason,
                    overrule=overrule,
                )
            )
            if as_json:
                rows.append(MessageToDict(reply, preserving_proto_field_name=True))
                continue
            what = f"{saying} {correction}".strip()
            print(f"case {number}: {reply.case.tag!r} for {reply.case.item.item_id}: {what}")
            if reply.switched:
                print(f"group {reply.switched} goes to review from now on; see: tandem review audit")
    if as_json:
        print(json.dumps({"resolved": rows}))


def _filter(group: str, kind: str, state: str, verdict: str, oldest: bool) -> review_pb2.CaseFilter:
    from protos.tandem.v1 import review_pb2

    return review_pb2.CaseFilter(
        group=group,
        kind=_enum("kind", review_pb2.CaseKind, kind),
        state=_enum("state", review_pb2.CaseState, state),
        saying=_enum("verdict", review_pb2.Saying, verdict),
        order=review_pb2.CASE_ORDER_OLDEST if oldest else review_pb2.CASE_ORDER_UNCERTAIN,
    )


def _enum(what: str, kind: Any, name: str) -> Any:
    """The enum's value of this name (its own prefix left out), 0 for none. Raises UsageError."""
    names = {value.lower().rpartition("_")[2]: number for value, number in kind.items() if number}
    if name and name not in names:
        raise UsageError(f"there is no {what} {name!r}; choose of {', '.join(names)}")
    return names.get(name, 0)


for name, command in (("import", files.import_cases), ("export", files.export)):
    review_app.command(name)(command)
