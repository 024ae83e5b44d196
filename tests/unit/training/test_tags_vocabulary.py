"""Labels that a vocabulary adds and no item carries: what the guardrail learns of them, and what certifies."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl

from graph import ontology
from models import prompts
from models.catalog import Catalog
from models.index import create_index
from models.policy import TagConfig, TagPolicy
from models.vocabulary import Label, Vocabulary
from tests.fakes import FakeEmbedder
from tests.unit.training.test_acceptance import Told
from training import tags
from training.acceptance import certified

WORDS = {"MILK": ("whole", "skimmed", "fresh", "fine", "alpine"), "WINE": ("red", "white", "dry", "sweet", "old")}
TITLES = [
    (f"{first} {second} {label.lower()} {number}x", label)
    for label, words in WORDS.items()
    for (first, second), number in product(product(words, repeat=2), range(4))
]
ITEMS = pl.DataFrame(TITLES, schema=["title", "category"], orient="row").with_columns(
    item_id=pl.format("i{}", pl.int_range(pl.len())), text=pl.lit(None, pl.String)
)
ADDED = Vocabulary("shop", [Label("MILK"), Label("OAT", "Oat milk"), Label("CIDER", "Dry old cider")])


async def test_guardrail_learns_nothing_of_labels_without_gold_and_they_stay_rivals() -> None:
    """All their proposals are wrong in gold, whatever they are to a new product; an item they fit is no other label's
    for sure, so what certifies counts them."""
    catalog = Catalog.build(ITEMS, "category", ["category"], FakeEmbedder(), create_index, vocabulary=ADDED)
    config = TagConfig(examples=60)
    template = prompts.load("tag")
    examples = await tags.build_examples(
        ITEMS, catalog, ontology.load("generic"), template, None, 0, config, 7, lambda *_: None
    )
    added = {catalog.labels.index(label) for label in ("OAT", "CIDER")}
    assert examples.held_out is not None
    assert not added & set(examples.learn.label.tolist())
    assert added <= set(examples.held_out.label.tolist())
    assert examples.learn.right.any()
    assert len(examples.learn.matrix) == len(examples.learn.label) == len(examples.learn.view)
    probability = np.full(len(examples.learn.matrix), 0.9)
    policy, _ = certified(config, Told(), examples.learn, probability, examples.held_out, catalog, {})
    assert policy.unseen == {"OAT", "CIDER"}
    assert TagPolicy.from_manifest({"acceptance": policy.to_dict()}).unseen == policy.unseen
