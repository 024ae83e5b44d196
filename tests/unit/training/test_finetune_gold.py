"""A release's gold as pairs: what certifies it, and what prompts are tried on, teaches nobody."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.items import ItemTable
from features.workspace import Workspace
from graph import ontology
from models import artifacts, prompts, release, units
from models.artifacts import MANIFEST
from models.catalog import Catalog
from models.errors import ArtifactMismatch
from models.index import load_index
from models.neutral import neutralize
from models.policy import TagConfig
from models.ports import LLMRequest
from tests.fakes import FakeLLM
from training import tags, trial
from training.finetune import gold
from training.finetune.gold import tag_pairs
from training.finetune.lora import KIND
from training.tags import Split


def drawn(workspace: Workspace, items: int, seed: int) -> gold.Gold:
    return tag_pairs(workspace, items, seed, lambda *_: None)


def test_nothing_that_certifies_or_is_tried_teaches(trained_workspace: Workspace) -> None:
    _, folder = release.read(trained_workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    frame = ItemTable.load(folder / "item_table").frame
    unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(frame))
    # As `tandem train` of this workspace drew them: its seed and its share.
    split = Split.draw(frame, catalog, TagConfig(), np.random.default_rng(7))
    assert split.gold.sum() > 100
    tried = unit[trial.tag_rows(catalog, unit, gold.TRIAL_ITEMS, gold.TRIAL_SEED)]
    found = drawn(trained_workspace, 200, 1)
    taught = unit[np.isin(frame["item_id"].cast(str).to_numpy(), found.facts["items"])]
    assert len(np.unique(taught)) == len(found.pairs) == len(found.facts["items"]) > 50
    assert not split.gold[taught].any()
    assert not np.isin(taught, tried).any()
    assert found.facts["units"]["held_out"] == split.gold.sum()
    assert found.facts["release"] == folder.name


def test_what_a_usual_trial_asks_is_what_the_command_draws_by_default() -> None:
    from cli.prompttrial import try_version

    defaults = inspect.signature(try_version).parameters
    assert (defaults["items"].default, defaults["seed"].default) == (gold.TRIAL_ITEMS, gold.TRIAL_SEED)


def test_pairs_are_questions_of_tag_with_the_right_answer_among_the_choices(trained_workspace: Workspace) -> None:
    template = prompts.load("tag")
    found = drawn(trained_workspace, 40, 1)
    assert found.facts["prompt"] == {"tag": template.version}
    assert len(found.pairs) == 40
    for pair in found.pairs:
        assert pair.request.system == template.system
        assert pair.request.json_schema is not None
        choices = pair.request.json_schema["properties"]["tags"]["items"]["enum"]
        (label,) = json.loads(pair.answer)["tags"]
        assert label in choices
        assert f"- {label}" in pair.request.user.splitlines()


def test_no_pair_shows_a_tagged_product_of_its_own_kind(trained_workspace: Workspace) -> None:
    """The examples in the question would say the answer, and teach copying."""
    _, folder = release.read(trained_workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    frame = ItemTable.load(folder / "item_table").frame
    unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(frame))
    found = drawn(trained_workspace, 100, 1)
    taught = np.array([frame["item_id"].cast(str).to_list().index(one) for one in found.facts["items"]])
    texts_of: dict[int, set[str]] = {}
    for row, of in enumerate(unit.tolist()):
        texts_of.setdefault(of, set()).add(catalog.texts[catalog.text_of_row[row]])
    shown = 0
    for pair, row in zip(found.pairs, taught.tolist()):
        own = {f"- {neutralize(text)[:60].rstrip()}" for text in texts_of[int(unit[row])]}
        lines = [line.partition(" => ")[0] for line in pair.request.user.splitlines() if " => " in line]
        shown += len(lines)
        assert own.isdisjoint(lines)
    assert shown > 300


def test_a_seed_draws_the_same_pairs_again(trained_workspace: Workspace) -> None:
    first, again, other = (drawn(trained_workspace, 20, seed).pairs for seed in (3, 3, 4))
    assert first == again != other


def test_release_whose_held_out_units_cannot_be_told_is_refused(trained_workspace: Workspace, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    shutil.copytree(trained_workspace.root, place.root)
    _, folder = release.read(place.releases)
    path = folder / "tag_guardrail" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["parameters"]["held_out"] = 0.3
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactMismatch, match="which products must not teach cannot be told"):
        drawn(place, 20, 1)
    del manifest["parameters"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactMismatch, match="does not say 'parameters' of its gold"):
        drawn(place, 20, 1)


def test_what_an_adapter_was_taught_is_not_asked_of_it_in_training(
    trained_workspace: Workspace, tmp_path: Path
) -> None:
    _, folder = release.read(trained_workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    frame = ItemTable.load(folder / "item_table").frame
    taught = drawn(trained_workspace, 100, 1).facts["items"]
    adapter = artifacts.save(tmp_path / "adapter", KIND, {"items": taught}, lambda _: None)
    assert gold.taught_items(adapter) == frozenset(taught)
    assert gold.taught_items(tmp_path) == gold.taught_items(None) == frozenset()
    unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(frame))
    known = set(unit[frame["item_id"].is_in(taught).to_numpy()].tolist())
    titles = {title for title, of in zip(frame["title"].to_list(), unit.tolist()) if of in known}
    asked: list[str] = []

    def say(request: LLMRequest) -> str:
        asked.append(request.user)
        return json.dumps({"tags": []})

    graph = ontology.load(trained_workspace.config().ontology)
    config = TagConfig(trees=5, examples=600, threads=1)
    for told in ((), taught):
        asked.clear()
        found = asyncio.run(
            tags.build_examples(
                frame,
                catalog,
                graph,
                prompts.load("tag"),
                FakeLLM(say),
                600,
                config,
                7,
                lambda *_: None,
                frozenset(told),
            )
        )
        mentioned = [user for user in asked if any(f"Product: {title}\n" in user for title in titles)]
        assert found.facts["llm_examples"] == len(asked) > 100
        assert bool(mentioned) == (not told)
