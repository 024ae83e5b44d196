"""The ranker: LightGBM LambdaMART over the ranking columns (Burges, "From RankNet to LambdaRank to LambdaMART", 2010).

The only file that imports LightGBM.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models import artifacts
from models.errors import ArtifactMismatch
from models.explain import top_contributions
from models.forest import Forest, UnknownTree
from models.ports import Contribution, FloatMatrix, FloatVector

if TYPE_CHECKING:
    import lightgbm

KIND = "ranker"
Ranked = tuple[FloatMatrix, npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Matrix [n, columns], relevance [n], and how many rows each target has, one after the other."""
FloatMatrix64 = npt.NDArray[np.float64]
_THREADS: Final = re.compile(r"^\[num_threads: \d+\]$", re.MULTILINE)


class RankerConfig(BaseModel):
    """Hyperparameters of training; all that decide the trees are recorded in the artifact's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Literal["lambdarank", "binary"] = "lambdarank"
    """Learn the order of a target's candidates, or of each candidate whether it is wanted: better where few are."""
    trees: int = Field(default=120, ge=1, le=5000)
    """Boosting rounds at most; where validation says that fewer do, or data are few, there are fewer."""
    leaves: int = Field(default=12, ge=2, le=1024)
    """Leaves per tree: more fit finer interactions and cost time per score."""
    learning_rate: float = Field(default=0.12, gt=0, le=1)
    """Shrinkage per round; halving it about doubles the rounds needed."""
    min_leaf: int = Field(default=500, ge=1)
    """Rows a leaf must hold; guards against fitting single users."""
    column_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the columns each tree may split on: trees differ more, and training is quicker."""
    target_share: float = Field(default=0.4, gt=0, le=1)
    """Share of the targets each tree learns from, with all their candidates; under "binary" of the candidates."""
    l2: float = Field(default=20.0, ge=0)
    """Shrinks what leaves with little to go by say."""
    truncation: int = Field(default=12, ge=1)
    """Positions whose order LambdaRank optimizes."""
    patience: int = Field(default=10, ge=1)
    """Rounds without a better validation NDCG before a fit that compares parameters stops."""
    seed: int = 7
    threads: int = Field(default=0, ge=0)
    """Threads of training; 0 takes all cores. The trees are the same with any number."""


VARIANTS: Final[tuple[dict[str, Any], ...]] = ({}, {"min_leaf": 100, "l2": 5.0}, {"min_leaf": 20, "l2": 1.0})
"""What training compares on validation before it fits, by the size of the data: changes that cost no time to score."""

SIZES: Final[tuple[dict[str, Any], ...]] = ({"leaves": 6}, {"leaves": 24})
"""Sizes of trees that a wide search compares beside the configured one."""

FEW_WANTED: Final[tuple[dict[str, Any], ...]] = ({"objective": "binary"}, {"objective": "binary", "min_leaf": 100})
"""What is compared as well where nothing is had twice: of 200 candidates hardly one is wanted."""


class LightGBMRanker:
    """A trained ranker; `models.ports.TreeModel`. Scores are comparable within one request only.

    They are computed by `models.forest`, to the bits of LightGBM's own, which scores what a Forest does not know.
    """

    def __init__(self, booster: lightgbm.Booster, manifest: dict[str, Any]) -> None:
        self._booster = booster
        self.manifest = manifest
        self._columns = tuple(manifest["columns"])
        try:
            self._forest: Forest | None = Forest.parse(booster.model_to_string())
        except UnknownTree:
            self._forest = None

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        if not len(matrix):
            return np.empty(0)
        if self._forest is not None:
            return self._forest.predict(matrix)
        # One thread: 200 rows are too few to share, and a busy replica has other requests for its cores.
        return np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=1), np.float64)

    def shares(self, matrix: FloatMatrix) -> FloatMatrix64:
        """Exact tree-SHAP contributions [n, columns + 1], the last the bias: they add up to the score."""
        return np.asarray(self._booster.predict(matrix, pred_contrib=True, num_threads=1), np.float64)

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        if not len(matrix):
            return []
        return top_contributions(self._columns, matrix, self.shares(matrix), top)

    def importance(self) -> dict[str, float]:
        """Total gain of the splits on each column."""
        gains = self._booster.feature_importance(importance_type="gain")
        return {name: float(gain) for name, gain in zip(self._columns, gains)}

    def save(self, folder: Path) -> None:
        artifacts.save(folder, KIND, self.facts, self.write)

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says beside what saving adds."""
        return {key: value for key, value in self.manifest.items() if key not in ("kind", "files", "created")}

    def write(self, folder: Path) -> None:
        """The trees alone, in LightGBM's own text format: readable, and without code in it."""
        (folder / "model.txt").write_text(self._booster.model_to_string())

    @staticmethod
    def load(folder: Path, schema_hash: str) -> LightGBMRanker:
        """Raises ArtifactMismatch where files are damaged or the feature schema is another."""
        import lightgbm

        manifest = artifacts.load(folder, KIND, {"schema_hash": schema_hash})
        try:
            booster = lightgbm.Booster(model_str=(folder / "model.txt").read_text())
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactMismatch(f"{folder} cannot be read by this LightGBM ({error}). Run: tandem train") from error
        return LightGBMRanker(booster, manifest)


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Ranking data with its values in bins, which cost a fit's time and which several fits share.

    ``valid``: what a fit is judged by after each round; None where nothing is held out.
    """

    columns: tuple[str, ...]
    train: lightgbm.Dataset
    valid: lightgbm.Dataset | None = None

    @staticmethod
    def of(columns: Sequence[str], data: Ranked, threads: int = 0) -> Binned:
        """From matrix [n, columns], relevance [n] and group sizes."""
        import lightgbm

        matrix, relevance, sizes = data
        binned = lightgbm.Dataset(
            matrix, relevance, group=sizes, feature_name=list(columns), params=_dataset_parameters(threads)
        )
        return Binned(tuple(columns), binned.construct())

    def part(self, train: npt.NDArray[np.int64], valid: npt.NDArray[np.int64]) -> Binned:
        """To train on some rows and validate on others, each ascending and with whole groups only."""
        return Binned(self.columns, self._rows(train), self._rows(valid))

    def _rows(self, rows: npt.NDArray[np.int64]) -> lightgbm.Dataset:
        return self.train.subset(rows.tolist()).construct()


def _dataset_parameters(threads: int) -> dict[str, Any]:
    # Columns are not dropped by one fit's least leaf, for another may have a smaller one.
    return {"max_bin": 63, "feature_pre_filter": False, "num_threads": threads, "verbosity": -1}


def fit(
    config: RankerConfig,
    data: Binned,
    facts: dict[str, Any],
    progress: Callable[[float], None] = lambda _: None,
    unused: Collection[str] = (),
    rounds: int | None = None,
) -> LightGBMRanker:
    """Train for ``rounds``; without, for at most ``config.trees``, to the best round by NDCG@10 on the validation data.

    ``facts`` join the manifest (schema hash, data hash, split). ``unused``: columns no tree may split on.
    """
    import lightgbm

    parameters = {
        **_dataset_parameters(config.threads),
        "objective": config.objective,
        "metric": "ndcg",
        "eval_at": [10],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_leaf,
        "lambdarank_truncation_level": config.truncation,
        "feature_fraction": config.column_share,
        "bagging_fraction": config.target_share,
        "bagging_freq": 1,
        "bagging_by_query": config.objective == "lambdarank",
        "lambda_l2": config.l2,
        "feature_contri": [0.0 if name in unused else 1.0 for name in data.columns] if unused else None,
        "seed": config.seed,
        "deterministic": True,
        "force_col_wise": True,
    }
    most = config.trees if rounds is None else rounds
    judged = [] if data.valid is None or rounds is not None else [data.valid]

    def report(environment: Any) -> None:
        progress((environment.iteration + 1) / most)

    callbacks: list[Callable[..., Any]] = [report]
    if judged:
        callbacks.append(lightgbm.early_stopping(config.patience, verbose=False))
    booster = lightgbm.train(
        parameters, data.train, num_boost_round=most, valid_sets=judged or None, callbacks=callbacks
    )
    best = booster.best_iteration if judged else booster.current_iteration()
    manifest = {
        "columns": list(data.columns),
        "parameters": config.model_dump(exclude={"threads"}),
        "rounds": best,
        "validation_ndcg@10": booster.best_score["valid_0"]["ndcg@10"] if judged else None,
        "versions": artifacts.package_versions("lightgbm", "numpy"),
        **facts,
    }
    # Kept at its best round, so that loading needs no note of it. Any number of threads makes these trees: left in the
    # text, theirs would give the same release another name on a machine with other cores.
    text = _THREADS.sub("[num_threads: 0]", booster.model_to_string(num_iteration=best))
    return LightGBMRanker(lightgbm.Booster(model_str=text), manifest)
