"""The ranker that serves: LightGBM's trees and, where validation says that it helps, a network beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from models import artifacts
from models.explain import top_contributions
from models.network import Network
from models.ports import Contribution, FloatMatrix, FloatVector
from models.ranker import KIND, LightGBMRanker

_FILE: Final = "network.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Trees, and ``factor`` times the score of a ``network``, None for trees alone; `models.ports.TreeModel`.

    Scores are comparable within one request only.
    """

    trees: LightGBMRanker
    network: Network | None = None
    factor: float = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        return self.trees.columns

    @property
    def manifest(self) -> dict[str, Any]:
        return self.trees.manifest

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        scores = self.trees.predict(matrix)
        return scores if self.network is None else scores + self.factor * self.network.predict(matrix)

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        """Per row the ``top`` largest contributions: the trees' exact tree SHAP and the network's (`Network.shares`).

        All of them with the bias add up to the score.
        """
        if self.network is None or not len(matrix):
            return self.trees.explain(matrix, top)
        shares = self.trees.shares(matrix) + self.factor * self.network.shares(matrix)
        return top_contributions(self.columns, matrix, shares, top)

    def importance(self) -> Mapping[str, float]:
        """What each column is worth: mean size of its contributions as training noted it, else the trees' gain."""
        noted: Mapping[str, float] | None = self.manifest.get("network", {}).get("importance")
        return self.trees.importance() if noted is None else noted

    def save(self, folder: Path) -> None:
        """Write the artifact: `load` gives the same scores to the bit."""

        def write(where: Path) -> None:
            self.trees.write(where)
            if self.network is not None:
                self.network.save(where / _FILE)

        artifacts.save(folder, KIND, {**self.trees.facts, "factor": self.factor}, write)

    @classmethod
    def load(cls, folder: Path, schema_hash: str) -> Self:
        """Raises ArtifactMismatch where files are damaged or the feature schema is another."""
        trees = LightGBMRanker.load(folder, schema_hash)
        if _FILE not in trees.manifest["files"]:
            return cls(trees)
        return cls(trees, Network.load(folder / _FILE, len(trees.columns)), float(trees.manifest["factor"]))
