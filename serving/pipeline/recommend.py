"""Recommend: features, retrieval, rules, trees for a known user; words, graph, index, LLM, guardrail for a new one."""

from __future__ import annotations

import asyncio
import logging
import math

import numpy as np
import numpy.typing as npt

from features.candidates import Candidates, Source, forbidden, retrieve, source_names, together_with
from features.errors import StoreUnavailable
from features.history import History
from features.keys import place_key
from features.transforms import Profile, assemble, summarize
from graph.lexicon import asked_for
from graph.ports import Proof
from graph.wants import Person, labels_that_serve, read_person, serves_any
from models import coldstart
from models.coldstart import ColdCandidates, Described
from models.errors import ModelError
from models.ports import Contribution
from models.prompts import Prompt
from models.tagging import LLMTags, read_choices
from serving.clock import RequestClock
from serving.errors import BudgetExceeded
from serving.gateway.ports import Ask, usage_of
from serving.messages import Judged, Recommendation, RecommendedItem, RecommendQuery, Usage
from serving.pipeline.rules import Rules, item_proofs, resolve
from serving.services import Scorer, Services

_log = logging.getLogger(__name__)
_REASONS = 4
COLD_TASK = "cold_start"
"""What the gateway, its metrics and the prompt registry call the words of a stranger."""
_NOBODY = Person({}, {})


async def recommend(services: Services, query: RecommendQuery, clock: RequestClock) -> Recommendation:
    """Answer within the query's deadline or raise DeadlineExceeded; what fell back is in the reply's header.

    Raises InvalidRequest for constraints nobody knows.
    """
    with clock.stage("features"):
        history = _read_history(services, query.user_id, clock)
        now = services.now(history, query.at)
        profile = summarize(history, services.table, now, place_key(query.place))
    clock.check("retrieval")
    if profile.n_events:
        return await _ranked(services, query, clock, profile, "known_user")
    if query.profile_text.strip():
        if services.cold_judge is not None:
            return await _described_user(services, query, clock, now)
        # What is ruled out is nearest to the words that rule it out: they must not be searched for.
        if said := asked_for(query.profile_text):
            return await _nearest_to_words(services, query, clock, now, said)
        clock.degrade(
            "guardrail", "the release has no cold-start guardrail; the answer is what is popular, under rules"
        )
    return await _ranked(services, query, clock, profile, "cold_popular")


def _read_history(services: Services, user_id: str, clock: RequestClock) -> History:
    if not user_id:
        return History.empty()
    try:
        return services.store.history(user_id)
    except StoreUnavailable as error:
        _log.warning("online store: %s", error)
        clock.degrade("features", "the online store does not answer; the user is treated as new")
        return History.empty()


async def _ranked(
    services: Services,
    query: RecommendQuery,
    clock: RequestClock,
    profile: Profile,
    path: str,
    usage: Usage | None = None,
) -> Recommendation:
    """What the trees rank highest. Without a history the candidates are what is popular, and the trees, which learned
    from shortened histories too, order them by what sells now, at this hour: better than by any one count."""
    with clock.stage("retrieval"):
        similar = services.similar_rows(profile.recent_rows(), services.candidates // 5)
        table, repeats = services.table, services.release.repeats
        candidates = retrieve(profile, table, services.candidates, similar, repeats, query.new_only)
    with clock.stage("rules"):
        # Words of a known user change no ranking, but what they forbid is forbidden.
        person, rules = _understood(services, query)
        not_again = forbidden(profile, repeats, query.new_only)
        candidates = _fill(services, rules, candidates, query.k, profile, not_again)
    clock.check("ranking")
    with clock.stage("ranking"):
        matrix = assemble(profile, services.table, candidates.rows, candidates.copurchase)
        ranker, decided_by = _decider(services, query, path)
        try:
            scores = await ranker.score(matrix)
        except ModelError as error:
            # Candidates come in the order of their sources' own scores: the user's habits first.
            _log.warning("ranker: %s", error)
            clock.degrade("ranking", "the ranker does not answer; items are in the order they were retrieved")
            scores, decided_by = -np.arange(len(candidates), dtype=np.float64), "retrieval"
        order = np.argsort(-scores, kind="stable")[: query.k]
    with clock.stage("explanation"):
        wanted = query.explain and decided_by != "retrieval"
        reasons = await _explain(ranker, matrix[order], wanted, clock)
        shown = candidates.rows[order].tolist(), scores[order].tolist(), candidates.sources[order].tolist()
        asked = [*person.wants, *query.require]
        items = tuple(
            _item(services, row, score, source_names(sources), decided_by, why, item_proofs(services, row, asked))
            for row, score, sources, why in zip(*shown, reasons)
        )
    had = len(np.unique(not_again))
    return _reply(services, query, clock, items, path, person, rules, profile.now, usage, had)


def _decider(services: Services, query: RecommendQuery, path: str) -> tuple[Scorer, str]:
    """Who orders the candidates, and its name. Discovery learned from people with a history only."""
    if query.new_only and services.discovery is not None and path == "known_user":
        return services.discovery, "discovery"
    return services.ranker, "ranker"


async def _described_user(services: Services, query: RecommendQuery, clock: RequestClock, now: int) -> Recommendation:
    judge = services.cold_judge
    assert judge is not None  # the caller chose this path because there is one
    with clock.stage("graph"):
        person, rules = _understood(services, query)
        wants = list(person.wants)
    with clock.stage("index"):
        described = await _described(services, query.profile_text, wants)
    clock.check("the LLM")
    with clock.stage("llm"):
        prompt = services.prompts[COLD_TASK].of(query.user_id)
        llm, usage = await _ask_llm(services, query, prompt, described, rules, clock)
    clock.check("the guardrail")
    with clock.stage("rules"):
        found = _proposed(services, rules, described, llm, wants)
        found = _with_popular(services, rules, found, query.k, now)
    with clock.stage("guardrail"):
        serves = serves_any(services.properties, found.rows, wants)
        matrix = coldstart.evidence(services.catalog, services.demand, described, found.rows, llm, serves)
        plain = coldstart.neutral(matrix, judge.facts["usual"])
        try:
            both = await judge.score(np.concatenate((matrix, plain)))
        except ModelError as error:
            _log.warning("guardrail: %s", error)
            both = None
    if both is None:
        clock.degrade("guardrail", "the guardrail does not answer; the answer is what is popular, under rules")
        nobody = summarize(History.empty(), services.table, now, place_key(query.place))
        return await _ranked(services, query, clock, nobody, "cold_popular", usage)
    with clock.stage("ordering"):
        probability, stranger = both[: len(matrix)], both[len(matrix) :]
        # Popular items need no guardrail: they are what a stranger is shown anyway. All else must not be rejected.
        verdicts = [judge.verdict(float(p)) for p in probability]
        if llm is not None:
            said = [verdicts[at] for at in np.flatnonzero(found.by_llm)]
            services.told.judged(query.request_id, COLD_TASK, prompt.id, said or ["abstain"])
        kept = found.by_popularity | np.array([verdict != "reject" for verdict in verdicts], bool)
        found, matrix = _keep(found, kept), matrix[kept]
        probability, stranger = probability[kept], stranger[kept]
        order = coldstart.order_for_person(
            probability,
            stranger,
            found.rows,
            services.catalog.label_of_row[found.rows],
            query.k,
            judge.facts["ordering"].get("personal_share", 0.0),
            [serves_any(services.properties, found.rows, [want]) for want in wants],
        )
    with clock.stage("explanation"):
        reasons = await _explain(judge, matrix[order], query.explain, clock)
        items = tuple(
            _cold_item(services, found, at, float(probability[at]), reasons[place], matrix[at], wants, query.require)
            for place, at in enumerate(order.tolist())
        )
    return _reply(services, query, clock, items, "cold_words", person, rules, now, usage)


async def _nearest_to_words(
    services: Services, query: RecommendQuery, clock: RequestClock, now: int, said: str
) -> Recommendation:
    """Of a release without a guardrail: what index and graph propose, nearest to the words first, then what is popular.

    No LLM is asked: nothing would judge what it says.
    """
    clock.degrade(
        "guardrail", "the release has no cold-start guardrail; items nearest to the words come first, judged by nothing"
    )
    with clock.stage("graph"):
        person, rules = _understood(services, query)
        wants = list(person.wants)
    with clock.stage("index"):
        # Of the words alone: what the graph reads into them ("sweet") is near much that nobody named.
        described = await _described(services, said, [])
    clock.check("the rules")
    with clock.stage("rules"):
        found = _proposed(services, rules, described, None, wants)
        found = _keep(found, found.by_index | found.by_graph)
        found = _with_popular(services, rules, found, query.k, now)
    with clock.stage("ordering"):
        serves = serves_any(services.properties, found.rows, wants)
        matrix = coldstart.evidence(services.catalog, services.demand, described, found.rows, None, serves)
        likeness = matrix[:, coldstart.COLD_COLUMNS.index("text_similarity")].astype(np.float64)
        near = found.by_index | found.by_graph
        # Items of one text have one likeness, whatever the last bits of their products; then those more people bought.
        users, place = services.demand.item_users[found.rows], np.arange(len(near))
        order = np.lexsort((place, np.where(near, -users, 0), np.where(near, -likeness.round(5), 0), ~near))[: query.k]
    with clock.stage("explanation"):
        asked = [*wants, *query.require]
        items = tuple(
            _item(
                services,
                row,
                float(likeness[at]),
                _proposers(found, at),
                "similarity" if near[at] else "retrieval",
                (),
                item_proofs(services, row, asked),
            )
            for at, row in zip(order.tolist(), found.rows[order].tolist())
        )
    return _reply(services, query, clock, items, "cold_nearest", person, rules, now)


def _understood(services: Services, query: RecommendQuery) -> tuple[Person, Rules]:
    """What the words mean, and the rules that follow from them and from the query."""
    person = read_person(services.graph, query.profile_text) if query.profile_text.strip() else _NOBODY
    rules = resolve(services, query.avoid, query.require, query.exclude_items, _avoidable(services, person))
    return person, rules


async def _described(services: Services, words: str, wants: list[str]) -> Described:
    return await asyncio.get_running_loop().run_in_executor(
        services.workers, coldstart.describe, services.catalog, services.embedder, words, wants
    )


def _proposed(
    services: Services, rules: Rules, described: Described, llm: LLMTags | None, wants: list[str]
) -> ColdCandidates:
    """What LLM, graph and index propose, and what is popular, as far as the rules allow it."""
    labels = labels_that_serve(services.properties, services.demand.best_in_label, services.demand.label_users, wants)
    found = coldstart.candidates(services.catalog, services.demand, described, llm, labels)
    return _keep(found, rules.allowed(services, found.rows))


async def _explain(
    scorer: Scorer, matrix: npt.NDArray[np.float32], wanted: bool, clock: RequestClock
) -> list[tuple[Contribution, ...]]:
    """Reasons for every row of the matrix; empty ones where none are wanted, or nobody can give them any more."""
    if wanted:
        try:
            return await scorer.explain(np.ascontiguousarray(matrix), _REASONS)
        except ModelError as error:
            _log.warning("explanation: %s", error)
            clock.degrade("explanation", "the model that scored does not answer; the reasons are left out")
    return [()] * len(matrix)


async def _ask_llm(
    services: Services, query: RecommendQuery, prompt: Prompt, described: Described, rules: Rules, clock: RequestClock
) -> tuple[LLMTags | None, Usage]:
    """The LLM's categories, or None and the reason among the degraded stages."""
    request = coldstart.prompt(prompt, services.catalog, described, rules.banned_labels(services))
    if request is None:
        return None, Usage()
    codes = {label: code for code, label in enumerate(services.catalog.labels)}
    asked = Ask(
        COLD_TASK,
        request,
        clock.remaining_s - services.llm_reserve_s,
        prompt.id,
        query.request_id,
        query.tenant,
        query.user_id,
        personal=(coldstart.told(described),),
        check=lambda result: "" if read_choices(result, "categories", codes).labels else "taxonomy",
    )
    try:
        answer = await services.gateway.ask(asked)
    except (ModelError, BudgetExceeded) as error:
        clock.degrade("llm", str(error))
        return None, usage_of(error)
    return read_choices(answer.result, "categories", codes), answer.usage


def _avoidable(services: Services, person: Person) -> dict[str, Proof]:
    return {name: proof for name, proof in person.avoids.items() if name in services.properties.names}


def _fill(
    services: Services,
    rules: Rules,
    candidates: Candidates,
    k: int,
    profile: Profile,
    not_again: npt.NDArray[np.int64],
) -> Candidates:
    """Candidates the rules allow, filled up to ``k`` with the most popular items the rules allow.

    What is filled in is scored for the user like any other candidate. ``not_again``: rows that are none, see
    `features.candidates.forbidden`.
    """
    kept = candidates.keep(rules.allowed(services, candidates.rows))
    if len(kept) >= k:
        return kept
    known = np.concatenate((candidates.rows, not_again))
    extra = _popular(services, rules, known, k - len(kept), profile.now)
    together = together_with(profile, services.table, extra)
    return Candidates(
        np.concatenate((kept.rows, extra)),
        np.concatenate((kept.sources, np.full(len(extra), Source.POPULAR, np.uint8))),
        np.concatenate((kept.copurchase, together)),
    )


def _with_popular(services: Services, rules: Rules, found: ColdCandidates, k: int, now: int) -> ColdCandidates:
    """At least ``k`` popular items among the candidates, as far as the rules leave so many: they are always shown."""
    missing = k - int(found.by_popularity.sum())
    if missing <= 0:
        return found
    extra = _popular(services, rules, found.rows, missing, now)
    none = np.zeros(len(extra), bool)
    return ColdCandidates(
        np.concatenate((found.rows, extra)),
        np.concatenate((found.by_llm, none)),
        np.concatenate((found.by_index, none)),
        np.concatenate((found.by_graph, none)),
        np.concatenate((found.by_popularity, ~none)),
    )


def _popular(
    services: Services, rules: Rules, known: npt.NDArray[np.int64], count: int, now: int
) -> npt.NDArray[np.int64]:
    """The ``count`` most popular rows the rules allow, apart from those ``known``."""
    popular = np.concatenate((services.table.popular_at(now), services.demand.popular))
    found = _distinct(popular[~np.isin(popular, known)])
    found = found[rules.allowed(services, found)]
    if len(found) < count:
        # Strict rules may forbid all that is popular: then every item of the catalog is looked at, best-bought first.
        rest = np.lexsort((np.arange(len(services.table)), -services.demand.item_users))
        rest = rest[~np.isin(rest, np.concatenate((known, popular)))]
        found = np.concatenate((found, rest[rules.allowed(services, rest)]))
    return found[:count]


def _distinct(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _keep(found: ColdCandidates, mask: npt.NDArray[np.bool_]) -> ColdCandidates:
    return ColdCandidates(
        found.rows[mask], found.by_llm[mask], found.by_index[mask], found.by_graph[mask], found.by_popularity[mask]
    )


def _item(
    services: Services,
    row: int,
    score: float,
    sources: tuple[str, ...],
    decided_by: str,
    reasons: tuple[Contribution, ...],
    facts: tuple[Proof, ...],
) -> RecommendedItem:
    return RecommendedItem(
        services.table.item_ids[row],
        services.table.titles[row],
        score,
        sources,
        decided_by,
        reasons,
        facts,
        None,
        services.table.attributes(row),
    )


def _proposers(found: ColdCandidates, at: int) -> tuple[str, ...]:
    sources = Source(0)
    for source, mask in (
        (Source.LLM, found.by_llm),
        (Source.GRAPH, found.by_graph),
        (Source.INDEX, found.by_index),
        (Source.POPULAR, found.by_popularity),
    ):
        if mask[at]:
            sources |= source
    return source_names(int(sources))


def _cold_item(
    services: Services,
    found: ColdCandidates,
    at: int,
    probability: float,
    reasons: tuple[Contribution, ...],
    evidence: npt.NDArray[np.float32],
    wants: list[str],
    require: tuple[str, ...],
) -> RecommendedItem:
    judge = services.cold_judge
    assert judge is not None
    row = int(found.rows[at])
    logprob = float(evidence[coldstart.COLD_COLUMNS.index("llm_logprob")])
    return RecommendedItem(
        services.table.item_ids[row],
        services.table.titles[row],
        probability,
        _proposers(found, at),
        "guardrail",
        reasons,
        item_proofs(services, row, [*wants, *require]),
        Judged(probability, judge.verdict(probability), None if math.isnan(logprob) else logprob),
        services.table.attributes(row),
    )


def _reply(
    services: Services,
    query: RecommendQuery,
    clock: RequestClock,
    items: tuple[RecommendedItem, ...],
    path: str,
    person: Person,
    rules: Rules,
    now: int,
    usage: Usage | None = None,
    had: int = 0,
) -> Recommendation:
    """``had``: items that were no candidates because the user knows them."""
    shortfall = ""
    if len(items) < query.k:
        every = len(services.table)
        ruled = rules.avoid or rules.require or rules.avoid_labels or rules.require_labels or len(rules.excluded)
        known = f"; the user has {'events with' if query.new_only else 'had'} {had} of them" if had else ""
        shortfall = f"the rules leave {len(items)} items of {every}" if ruled else f"the catalog has {every} items"
        shortfall += known
    return Recommendation(
        clock.header(query.request_id, services.release.id, usage),
        items,
        path,
        (*person.wants.values(), *person.avoids.values()),
        rules.unknown_items,
        shortfall,
        now,
    )
