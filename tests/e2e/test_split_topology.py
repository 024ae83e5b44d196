"""Trees in deployments of their own answer what trees in the ingress answer, to the last bit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from features.workspace import Workspace
from models import release
from protos.tandem.v1 import ensemble_pb2, recommender_pb2
from serving import codec, pipeline
from serving.client import Client, item
from serving.clock import RequestClock
from serving.codec import Codec
from serving.config import Limits, ServeConfig
from serving.load import DISCOVERY, load_services
from serving.services import Services
from tests.e2e.conftest import copy_of
from tests.e2e.server import serving
from tests.unit.serving.rankers import small_ranker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PROFILES = ("vegetarian family with a baby", "student, no alcohol, likes Mexican food")
PRODUCTS = ("Bananas", "Sharp cheddar cheese 8 oz", "Vegan beef strips", "xqzv blorf")
READ = Codec(Limits(), 30_000)


def discovering(workspace: Workspace) -> Workspace:
    """With a ranker of new items, for which so few households are too few."""
    folder = release.read(workspace.releases)[1] / DISCOVERY
    shutil.rmtree(folder, ignore_errors=True)
    small_ranker(seed=3).save(folder)
    return workspace


@pytest.fixture(scope="module")
def split(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    workspace = discovering(copy_of(trained_workspace, tmp_path_factory, "split"))
    settings = 'llm = false\n[serve]\ntopology = "split"\n'
    with serving(workspace, workspace.root.parent, settings) as server, server.client() as client:
        yield client


@pytest.fixture(scope="module")
def fused(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Services:
    workspace = discovering(copy_of(trained_workspace, tmp_path_factory, "fused"))
    return load_services(workspace, ServeConfig(llm=None))


def clock() -> RequestClock:
    return RequestClock(30_000)


def test_recommend_is_equal(split: Client, fused: Services, households: list[str]) -> None:
    requests = [
        recommender_pb2.RecommendRequest(user_id=household, k=50, explain=True, new_only=number % 2 == 1)
        for number, household in enumerate(households[:10])
    ]
    requests += [recommender_pb2.RecommendRequest(profile_text=profile, k=30, explain=True) for profile in PROFILES]
    for request in requests:
        there = split.recommend(request)
        here = codec.recommend_reply(asyncio.run(pipeline.recommend(fused, READ.recommend_query(request), clock())))
        assert there.path == here.path
        assert list(there.items) == list(here.items)


@pytest.mark.parametrize("title", PRODUCTS)
def test_tag_is_equal(split: Client, fused: Services, title: str) -> None:
    request = recommender_pb2.TagRequest(item=item(title, "vegan"), max_tags=10)
    there = split.tag(request)
    here = codec.tag_reply(asyncio.run(pipeline.tag(fused, READ.tag_query(request), clock())))
    # NaN says that nobody knows a value, and is unlike itself: the bytes are compared.
    assert [tag.SerializeToString(deterministic=True) for tag in there.tags] == [
        tag.SerializeToString(deterministic=True) for tag in here.tags
    ]


def test_score_is_equal(split: Client, fused: Services) -> None:
    claims = [
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item(title), tag=tag), llm_logprob=-0.2)
        for title in PRODUCTS
        for tag in ("CHEESE", "BEEF", "TROPICAL FRUIT")
    ]
    claims += [
        ensemble_pb2.Claim(candidate=ensemble_pb2.CandidateClaim(profile_text=profile, item_id=item_id))
        for profile in PROFILES
        for item_id in fused.table.item_ids[:5]
    ]
    request = ensemble_pb2.ScoreRequest(claims=claims)
    there = split.score(request)
    here = codec.score_reply(asyncio.run(pipeline.score(fused, READ.score_query(request), clock())))
    assert len(there.judgements) == len(claims)
    assert [one.SerializeToString(deterministic=True) for one in there.judgements] == [
        one.SerializeToString(deterministic=True) for one in here.judgements
    ]
