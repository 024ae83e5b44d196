"""Pairs of a release's own gold: the questions ``Tag`` asks about products whose category people or the catalog know.

Only units (`models.units`) that the release learned from: those that certify it are left out, and so are those that the
usual trial of a prompt asks about, or the figures of both would be of what the LLM was told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.items import ItemTable
from features.workspace import Workspace
from models import artifacts, release, tagging
from models.catalog import Catalog
from models.errors import ArtifactMismatch
from models.index import load_index
from models.policy import TagConfig
from models.prompts.registry import PromptRegistry
from training import tags, trial
from training.finetune.lora import KIND
from training.finetune.pairs import Pair, tag_answer
from training.tags import Split

TRIAL_ITEMS: Final = 100
TRIAL_SEED: Final = 7
"""What `tandem prompts test` draws by default."""


@dataclass(frozen=True, slots=True)
class Gold:
    """``pairs``, and ``facts`` for the adapter's manifest: the release, the prompt, and which units taught."""

    pairs: list[Pair]
    facts: dict[str, Any]


def tag_pairs(workspace: Workspace, items: int, seed: int, progress: Callable[[str, float], None]) -> Gold:
    """Up to ``items`` pairs, one product of a unit, in a random order.

    A unit's own fold is hidden from what retrieves its labels, as for the guardrail's examples. A product whose gold is
    not among the labels shown is left out: no answer could name it.
    Raises ArtifactMismatch where there is no release, or none whose held-out units can be told.
    """
    current, folder = release.read(workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    frame = ItemTable.load(folder / "item_table").frame
    split = _split(folder, catalog, frame)
    registry = PromptRegistry(workspace.prompts)
    template = registry.get("tag", registry.find("tag", "production", current.versions))
    tried = split.unit[trial.tag_rows(catalog, split.unit, TRIAL_ITEMS, TRIAL_SEED)]
    rng = np.random.default_rng(seed)
    free = split.rows(catalog, False) & ~np.isin(split.unit, tried)
    rows = rng.permutation(tags.sample_rows(split.unit, free, len(free), rng))
    counts = [split.counts(catalog, fold, False) for fold in range(tags.FOLDS)]
    pairs: list[Pair] = []
    taught: list[str] = []
    asked = 0
    for row in rows.tolist():
        if len(pairs) == items:
            break
        asked += 1
        vector = catalog.vectors[int(catalog.text_of_row[row])]
        cold = counts[int(split.fold[split.unit[row]])]
        found = tagging.retrieve(catalog, cold, tags.tag_item(frame, catalog, row), vector)
        gold = int(catalog.label_of_row[row])
        request = tagging.prompt(template, catalog, found)
        if request is not None and gold in found.choices:
            pairs.append(Pair(request, tag_answer(catalog.labels[gold])))
            taught.append(str(frame["item_id"][row]))
        progress("gold", len(pairs) / items)
    facts = {
        "task": "tag",
        "release": current.id,
        "prompt": {template.name: template.version},
        "seed": seed,
        "items": taught,
        "units": {
            "free": len(rows),
            "held_out": int(split.gold.sum()),
            "of_trials": len(np.unique(tried)),
            "gold_not_shown": asked - len(pairs),
        },
    }
    return Gold(pairs, facts)


def taught_items(adapter: Path | None) -> frozenset[str]:
    """Ids of the items whose labels an adapter of `tandem finetune` was fitted to; none of another's, or without one.

    What such a model says of their kinds is no sample of what it says of others. Raises ArtifactMismatch where the
    adapter is damaged.
    """
    if adapter is None or not (adapter / "manifest.json").is_file():
        return frozenset()
    return frozenset(artifacts.load(adapter, KIND).get("items", ()))


def _split(folder: Path, catalog: Catalog, frame: Any) -> Split:
    """The units that the release's guardrail was certified by, drawn as its training drew them."""
    guardrail = folder / "tag_guardrail"
    try:
        manifest = artifacts.load(guardrail, "guardrail")
        parameters: Mapping[str, Any] = manifest["parameters"]
        config = TagConfig.model_validate({name: parameters[name] for name in ("precision", "confidence", "held_out")})
        split = Split.draw(frame, catalog, config, np.random.default_rng(manifest["seed"]))
        certified = max((figures["units"] for figures in manifest["gold"].values()), default=0)
    except KeyError as error:
        raise ArtifactMismatch(f"{guardrail} does not say {error} of its gold. Run: tandem train") from error
    if int(split.gold.sum()) != certified:
        raise ArtifactMismatch(
            f"{guardrail} was certified by {certified} units and its release's items give {int(split.gold.sum())}: "
            "which products must not teach cannot be told. Run: tandem train"
        )
    return split
