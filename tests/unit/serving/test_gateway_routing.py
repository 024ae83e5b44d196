"""Who is asked: rows, experiments, shadows, and tenants whose prompts never leave the house."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import EngineUnavailable, ModelError
from models.llm import LLMConfig
from models.ports import LLMRequest, LLMResult
from serving.gateway.config import GatewayConfig, TargetConfig
from serving.gateway.gateway import Gateway, Silent
from serving.gateway.routing import PinnedPlan, Router, choices, hashed
from serving.gateway.targets import InHouse, InHouseTarget, Targets, VendorTarget, make_targets
from tests.fakes import FakeLLM
from tests.unit.serving.gateways import VENDOR, Hand, ListCache, Noting, Watched, ask, gateway

OTHER_VENDOR = {**VENDOR, "model": "n"}


def names(tables: dict[str, Any], **fields: Any) -> list[str]:
    """Whom a router would ask, of the targets ours, small (in house), theirs (vendor)."""
    config = GatewayConfig.model_validate({"targets": {"ours": {}, "small": {}, "theirs": VENDOR}, **tables})
    return [target.name for target in router(config).plan(ask(**fields)).targets.ordered]


def router(config: GatewayConfig) -> Router:
    providers = dict.fromkeys(config.targets, FakeLLM("yes").generate)
    return Router(config, make_targets(config, providers, {}, Silent(), Hand()))


def row(*targets: str, **match: Any) -> dict[str, Any]:
    return {"targets": targets, **match}


def test_without_rows_all_are_asked_in_their_order() -> None:
    assert names({}) == ["ours", "small", "theirs"]


@pytest.mark.parametrize(
    ("match", "fits", "fits_not"),
    [
        ({"tasks": ["tag"]}, {"task": "tag"}, {"task": "cold_start"}),
        ({"tenants": ["acme"]}, {"tenant": "acme"}, {"tenant": ""}),
        ({"tiers": ["gold"]}, {"tenant": "acme"}, {"tenant": "other"}),
        ({"min_prompt_chars": 100}, {"text": "x" * 100}, {"text": "x" * 50}),
        ({"max_prompt_chars": 100}, {"text": "x" * 50}, {"text": "x" * 100}),
        ({"max_remaining_s": 1.0}, {"budget_s": 0.9}, {"budget_s": 1.1}),
        ({"min_remaining_s": 1.0}, {"budget_s": 1.1}, {"budget_s": 0.9}),
        ({"min_choices": 3}, {"schema": {"enum": ["a", "b", "c"]}}, {"schema": {"enum": ["a", "b"]}}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_row_is_for_what_it_says(match: dict[str, Any], fits: dict[str, Any], fits_not: dict[str, Any]) -> None:
    tables = {"tiers": {"acme": "gold"}, "routes": [row("small", **match), row("ours", "theirs")]}
    assert names(tables, **fits) == ["small"]
    assert names(tables, **fits_not) == ["ours", "theirs"]


def test_choices_are_counted_wherever_they_are() -> None:
    schema = {"properties": {"enum": {"type": "string"}, "b": {"items": {"anyOf": [{"enum": [1, 2]}, {"enum": [3]}]}}}}
    assert (choices(schema), choices(None)) == (3, 0)


async def test_under_load_the_row_for_it_decides() -> None:
    big, small = Watched(), FakeLLM("small")
    tables = {
        "targets": {"big": {"max_concurrency": 4}},
        "routes": [row("small", loaded={"big": 0.5}), row("big", "small")],
    }
    one = gateway({"big": big, "small": small.generate}, tables)
    calls = []
    for number in range(2):
        calls.append(asyncio.create_task(one.ask(ask(f"{number}"))))
        await big.started.wait()
        big.started.clear()
    assert (await one.ask(ask("third"))).target == "small"
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def test_share_of_users_goes_to_the_canary_and_a_user_stays_there() -> None:
    tables = {"splits": [{"name": "new", "arms": {"theirs": 0.1}}], "routes": [row("ours", "small")]}
    config = GatewayConfig.model_validate({"targets": {"ours": {}, "small": {}, "theirs": VENDOR}, **tables})
    table = router(config)

    def asked(user: str) -> list[str]:
        return [target.name for target in table.plan(ask(user=user)).targets.ordered]

    users = [f"user-{number}" for number in range(4_000)]
    chosen = [user for user in users if asked(user)[0] == "theirs"]
    # 10 % of 4,000 within four standard deviations of a binomial.
    assert abs(len(chosen) - 400) < 4 * (4_000 * 0.1 * 0.9) ** 0.5
    table = router(config)
    assert [user for user in users if asked(user)[0] == "theirs"] == chosen
    assert asked(chosen[0]) == ["theirs", "ours", "small"]
    assert asked("") == ["ours", "small"]


def test_two_splits_divide_users_independently() -> None:
    users = [f"user-{number}" for number in range(4_000)]
    both = sum(hashed("a", user) < 0.5 and hashed("b", user) < 0.5 for user in users)
    assert abs(both - 1_000) < 4 * (4_000 * 0.25 * 0.75) ** 0.5


async def test_experiment_gets_only_its_own_answers_from_the_cache() -> None:
    cache = ListCache()
    arm, usual = FakeLLM("arm"), FakeLLM("usual")
    tables = {"splits": [{"name": "x", "by": "tenant", "arms": {"b": 1.0}, "tenants": ["t"]}], "cache_by_tenant": False}
    one = gateway({"a": usual.generate, "b": arm.generate}, tables, cache=cache)
    await one.ask(ask())
    answer = await one.ask(ask(tenant="t"))
    assert (answer.result.text, answer.cache, answer.target) == ("arm", "", "b")


async def test_shadow_is_called_and_noted_and_never_served() -> None:
    watcher = Noting()
    main, shadow = FakeLLM("main"), FakeLLM("shadow")
    tables = {"routes": [row("a")], "shadows": [{"target": "s"}]}
    one = gateway({"a": main.generate, "s": shadow.generate}, tables, observer=watcher)
    answers = [await one.ask(ask(f"{n}", request_id=f"r{n}")) for n in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await one.aclose()
    assert {answer.result.text for answer in answers} == {"main"}
    assert sum(attempt.shadow for attempt in watcher.attempts) == len(shadow.requests) > 0
    assert {answer.usage.completion_tokens for answer in answers} == {4}


async def test_shadows_are_bounded() -> None:
    hanging = Watched()
    tables = {"routes": [row("a")], "shadows": [{"target": "s"}], "max_shadows": 2}
    watcher = Noting()
    one = gateway({"a": FakeLLM("yes").generate, "s": hanging}, tables, observer=watcher)
    for number in range(5):
        await one.ask(ask(request_id=f"{number}"))
    assert watcher.most["s"] == 2
    await one.aclose()


TABLE = st.lists(
    st.fixed_dictionaries(
        {"targets": st.lists(st.sampled_from(["ours", "small", "theirs", "others"]), min_size=1, max_size=4)},
        optional={
            "tasks": st.just(["tag"]),
            "tenants": st.just(["sensitive"]),
            "min_prompt_chars": st.integers(0, 40),
            "max_remaining_s": st.floats(0.5, 5),
        },
    ),
    max_size=4,
)
ARMS = st.dictionaries(st.sampled_from(["ours", "theirs", "others"]), st.sampled_from([0.25, 0.33]), min_size=1)
SHADOWS = st.lists(st.builds(lambda target: {"target": target}, st.sampled_from(["small", "theirs", "others"])))


@given(rows=TABLE, arms=ARMS, shadows=SHADOWS, tier=st.booleans(), failing=st.booleans(), user=st.text(max_size=5))
def test_pinned_tenant_reaches_no_vendor_whatever_the_tables_say(
    rows: list[dict[str, Any]],
    arms: dict[str, float],
    shadows: list[dict[str, Any]],
    tier: bool,
    failing: bool,
    user: str,
) -> None:
    reached: list[str] = []

    def provider(name: str) -> Any:
        async def generate(_: LLMRequest) -> LLMResult:
            reached.append(name)
            if failing:
                raise EngineUnavailable("dead")
            return LLMResult("yes", "stop", 1, 1)

        return generate

    pinned = {"tiers": {"sensitive": "bank"}, "pinned_tiers": ["bank"]} if tier else {"pinned_tenants": ["sensitive"]}
    config = GatewayConfig.model_validate(
        {
            "targets": {"theirs": VENDOR, "ours": {}, "others": OTHER_VENDOR, "small": {}},
            "routes": [*rows, row("theirs", "others")],
            "splits": [{"name": "s", "arms": arms}],
            "shadows": shadows,
            "retries": {"backoff_ms": 0.0, "per_ask": 5},
            **pinned,
        }
    )
    one = Gateway(config, {name: provider(name) for name in config.targets})

    async def run() -> None:
        for number in range(3):
            try:
                await one.ask(ask("secret", user=user, tenant="sensitive", request_id=f"{number}"))
            except ModelError:
                assert failing
        await asyncio.sleep(0)
        await one.aclose()

    asyncio.run(run())
    assert reached
    assert set(reached) <= {"ours", "small"}


def test_list_of_in_house_models_can_hold_no_vendor() -> None:
    config = GatewayConfig.model_validate({"targets": {"ours": {}, "theirs": VENDOR}})
    providers = dict.fromkeys(config.targets, FakeLLM("yes").generate)
    ours, theirs = make_targets(config, providers, {}, Silent(), Hand()).ordered
    assert isinstance(ours, InHouseTarget)
    assert isinstance(theirs, VendorTarget)
    with pytest.raises(TypeError, match="'theirs' is a vendor"):
        InHouse((ours, theirs))  # type: ignore[arg-type]
    disguised = InHouseTarget("x", theirs.config, providers["theirs"], "m", config.breaker, Silent(), Hand())
    with pytest.raises(TypeError, match="'x' is a vendor"):
        InHouse((disguised,))
    with pytest.raises(TypeError, match="in-house targets"):
        PinnedPlan(Targets((theirs,)), InHouse(()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"routes": [row("nobody")]}, "names the target 'nobody'"),
        ({"routes": [row("a", tasks=["tag"])]}, "the last route must match everything"),
        ({"routes": [row("a", loaded={"b": 0.5}), row("a")]}, "names the target 'b'"),
        ({"splits": [{"name": "s", "arms": {"a": 0.7, "b": 0.7}}]}, "at most 1 together"),
        ({"splits": [{"name": "s", "arms": {"a": 0.1}}] * 2}, "two splits have one name"),
        ({"routes": [row("a", min_prompt_chars=9, max_prompt_chars=3), row("a")]}, "matches nothing"),
        ({"pinned_tenants": ["x"], "targets": {"a": VENDOR}}, "no target is in house"),
        ({"targets": {"a": {**VENDOR, "place": None}}}, "needs place"),
        ({"targets": {"a": {"place": "vendor"}}}, "runs in house"),
        ({"route": []}, "Extra inputs"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GatewayConfig.model_validate({"targets": {"a": {}}, **tables})


def test_one_llm_without_tables_is_the_default_target() -> None:
    config = GatewayConfig().or_single(LLMConfig(timeout_s=7.0), 0.5, 1.5)
    target = config.targets["default"]
    assert (target.timeout_s, target.price_per_1k_prompt, target.price_per_1k_completion) == (7.0, 0.5, 1.5)
    assert not target.vendor
    endpoint = LLMConfig(engine="openai", model="m", base_url="http://127.0.0.1:9/v1")
    assert GatewayConfig().or_single(endpoint).targets["default"].vendor
    assert GatewayConfig().or_single(None).targets == {}
    with pytest.raises(ValidationError, match="no target is in house"):
        GatewayConfig(pinned_tenants=frozenset({"x"})).or_single(endpoint)
    assert isinstance(target, TargetConfig)
