"""``tandem llm``: which language models answer, one prompt tried by the service's own way, and what they cost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    UINT32_MAX,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    err,
    show_reply,
)

llm_app = typer.Typer(no_args_is_help=True, help="Language models of the running service: health, a prompt, cost.")


@llm_app.command()
def status(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Every target the gateway may ask: whether it answers, its breaker, its load. Exit code 1 where none is healthy.

    Example: tandem llm status
    """
    from protos.tandem.v1 import llm_pb2
    from serving.llmrender import status_table

    with connected(workspace, target) as client:
        reply = client.llm_status(llm_pb2.LLMStatusRequest())
    show_reply(reply, status_table, as_json)
    if not any(each.healthy for each in reply.targets):
        err.print("no language model answers now: trees, index and graph do", highlight=False)
        raise typer.Exit(1)


@llm_app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    system: Annotated[str, typer.Option(help="The system text.")] = "",
    schema: Annotated[Path | None, typer.Option(help="A file with the JSON schema of the answer.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=UINT32_MAX, help="The longest answer, tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 0.0,
    tenant: Annotated[str, typer.Option(help="On whose budget, and by whose routes.")] = "",
    user: Annotated[str, typer.Option(help="For routes that divide users.")] = "",
    deadline_ms: Annotated[int, typer.Option(min=1, max=UINT32_MAX, help="Time for the answer.")] = 30_000,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Ask through the gateway as the service does: routes, budgets, cache, failover and checks, as the task "ask".

    Example: tandem llm ask "Name a cheese." --max-tokens 16
    """
    from protos.tandem.v1 import llm_pb2
    from serving.llmrender import answer_panel

    text = ""
    if schema is not None:
        try:
            text = schema.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--schema {schema} cannot be read: {error}") from None
    request = llm_pb2.LLMAskRequest(
        deadline_ms=deadline_ms,
        tenant=tenant,
        user_id=user,
        system=system,
        prompt=prompt,
        max_tokens=max_tokens,
        json_schema=text,
        temperature=temperature,
    )
    with connected(workspace, target) as client:
        reply = client.llm_ask(request)
    show_reply(reply, answer_panel, as_json)


@llm_app.command()
def cost(
    days: Annotated[int, typer.Option(min=1, max=3_660, help="Days of UTC back, today included.")] = 30,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Calls, tokens and cost by day, tenant, task, job and model, from the workspace: no service need run.

    Example: tandem llm cost --days 7
    """
    from features.workspace import Workspace
    from serving.gateway.budget import read_spent
    from serving.llmrender import cost_table
    from serving.render import show

    spent = read_spent(Workspace(workspace).llm_spend, days=days, tenant=tenant)
    if as_json:
        print(json.dumps({"spent": spent.to_dicts()}))
        return
    show(cost_table(spent))


@llm_app.command()
def context(
    request_id: Annotated[str, typer.Argument(help="The request_id of a reply.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What language models were told for a request and what they answered, without personal data.

    Example: tandem llm context 3f2a9c
    """
    from features.workspace import Workspace
    from serving.gateway.contexts import read_contexts
    from serving.llms import redactor

    contexts = read_contexts(Workspace(workspace).llm_contexts, request_id, redactor())
    if not contexts:
        raise typer.TyperException(
            f"no context is kept of request {request_id!r}: no language model was asked for it, or it was deleted for "
            "its age (serve.contexts.days)"
        )
    if as_json:
        print(json.dumps({"contexts": [{name: getattr(each, name) for name in each.__slots__} for each in contexts]}))
        return
    for each in contexts:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.time))
        print(f"{at}  {each.task}  {each.prompt}  {each.target} {each.model} {each.cache}".rstrip())
        print(f"[system]\n{each.system}\n[user]\n{each.user}\n[answer]\n{each.answer or each.error or '-'}")
        if each.verdicts:
            print(f"[verdicts] {', '.join(each.verdicts)}")
