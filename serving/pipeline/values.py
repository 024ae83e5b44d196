"""Values of free attributes, beside the tags: read in the item's words, what is left asked of the LLM, judged."""

from __future__ import annotations

import math
from collections.abc import Mapping

from models.errors import ModelError
from models.tagging import TagItem
from models.values import Judged, LLMValues, read_values
from serving.clock import RequestClock
from serving.errors import BudgetExceeded
from serving.gateway.ports import Ask, usage_of
from serving.messages import ProposedValue, TagQuery, Usage
from serving.services import Services

TASK = "attributes"
"""What the gateway and its metrics call the question, and the registry its prompt."""


async def ask_values(
    services: Services, query: TagQuery, clock: RequestClock
) -> tuple[Mapping[str, LLMValues], Usage, str]:
    """What an LLM says of the attributes that nothing else was found for, what it cost, and why it did not answer."""
    judge = services.values
    if judge is None:
        return {}, Usage(), ""
    prompt = services.prompts[TASK].of(query.item_id or query.item.title)
    request = judge.request(prompt, query.item, judge.propose(query.item))
    if request is None:
        return {}, Usage(), ""
    asked = Ask(
        TASK,
        request,
        clock.remaining_s - services.llm_reserve_s,
        prompt.id,
        query.request_id,
        query.tenant,
        job=query.job,
        personal=(),
    )
    try:
        answer = await services.gateway.ask(asked)
    except (ModelError, BudgetExceeded) as error:
        return {}, usage_of(error), str(error)
    return read_values(answer.result, judge.attributes), answer.usage, ""


def values_of(services: Services, item: TagItem, llm: Mapping[str, LLMValues]) -> tuple[ProposedValue, ...]:
    """Every value that stands in the item's words, with its verdict; none where the release reads no attributes."""
    if services.values is None:
        return ()
    return tuple(_proposed(item, judged) for judged in services.values.judge(services.values.propose(item, llm)))


def _proposed(item: TagItem, judged: Judged) -> ProposedValue:
    found = judged.found
    logprob = found.llm_logprob
    return ProposedValue(
        found.attribute,
        found.value.text,
        found.value.number,
        found.value.unit,
        judged.probability,
        judged.verdict,
        found.sources,
        (found.field, found.start, found.end),
        (item.title if found.field == "title" else item.text)[found.start : found.end],
        judged.warrant,
        None if logprob is None or math.isnan(logprob) else logprob,
    )
