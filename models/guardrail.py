"""The guardrail: trees' probability that a proposal is right, from evidence its proposer did not have.

The only file that imports XGBoost; LightGBM, to choose instead, is in `models.lightgbmtrees`. Probabilities are
calibrated by isotonic regression on held-out groups (Zadrozny & Elkan, 2002), kept as a step table in the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models import artifacts
from models.errors import ArtifactMismatch
from models.explain import top_contributions
from models.ports import Contribution, FloatMatrix, FloatVector
from models.treeshap import Shares, tabulated
from models.xgbforest import compiled

if TYPE_CHECKING:
    import xgboost

KIND = "guardrail"
Verdict = Literal["accept", "review", "reject"]
Model = Literal["xgboost", "lightgbm"]
MODELS: Final[tuple[Model, ...]] = get_args(Model)
_NEVER = 1.01
"""A threshold that no probability reaches."""


class TreesConfig(BaseModel):
    """Hyperparameters of the trees; every one is recorded in the artifact's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = "xgboost"
    """The library whose trees decide: XGBoost, or LightGBM to compare."""
    trees: int = Field(default=200, ge=1, le=5000)
    """Boosting rounds."""
    depth: int = Field(default=5, ge=1, le=16)
    """Depth of a tree: how many pieces of evidence may interact."""
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    min_child_weight: float = Field(default=5.0, ge=0)
    """Hessian weight a leaf must hold; larger is smoother."""
    seed: int = 7
    threads: int = Field(default=0, ge=0)
    """Threads of training; 0 takes all cores."""


class GuardrailConfig(TreesConfig):
    """A guardrail whose accept threshold is an estimate, without a certificate."""

    accept_precision: float = Field(default=0.9, gt=0, lt=1)
    """Precision the accept threshold must show on held-out groups."""
    reject_below: float = Field(default=0.1, ge=0, lt=1)
    """Probability under which a proposal is rejected rather than put up for review."""


class Trees(Protocol):
    """A fitted ensemble of one library; ``margin`` and ``shares`` are in log-odds."""

    def margin(self, matrix: FloatMatrix) -> FloatVector:
        """Margins [n] of rows [n, columns], as quick as can be."""
        ...

    def by_library(self, matrix: FloatMatrix) -> FloatVector:
        """The same by the library itself, without making anything ready."""
        ...

    def shares(self, matrix: FloatMatrix) -> Shares:
        """Tree-SHAP contributions [n, columns + 1], the bias last."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model's file into a folder."""
        ...


class Library(Protocol):
    """What fits and loads `Trees`; ``name`` is the package's."""

    name: str

    def fit(
        self, config: TreesConfig, monotone: Sequence[int], matrix: FloatMatrix, right: npt.NDArray[np.bool_]
    ) -> Trees:
        """``monotone``: by column 1, -1 or 0."""
        ...

    def load(self, folder: Path, columns: int) -> Trees:
        """Raises ArtifactMismatch for a file the installed library cannot read."""
        ...


def library(name: Model) -> Library:
    """The library of a name."""
    if name == "lightgbm":
        from models.lightgbmtrees import LightGBM

        return LightGBM()
    return XGBoost()


class XGBoostTrees:
    """Margins and contributions by compiled loops, where those agree with the library's."""

    def __init__(self, booster: xgboost.Booster, columns: int) -> None:
        self._booster = booster
        self._booster.set_param({"nthread": 1})
        self._columns = columns

    @cached_property
    def _saved(self) -> dict[str, Any]:
        saved: dict[str, Any] = json.loads(self._booster.save_raw("json").decode())
        return saved

    @cached_property
    def _margin(self) -> Callable[[FloatMatrix], FloatVector]:
        return compiled(self._saved, self._columns, self.by_library) or self.by_library

    @cached_property
    def _shares(self) -> Callable[[FloatMatrix], Shares]:
        return tabulated(self._saved, self._columns, self._shares_by_library) or self._shares_by_library

    def margin(self, matrix: FloatMatrix) -> FloatVector:
        return self._margin(matrix)

    def by_library(self, matrix: FloatMatrix) -> FloatVector:
        return np.asarray(self._booster.inplace_predict(matrix, predict_type="margin"), np.float64)

    def shares(self, matrix: FloatMatrix) -> Shares:
        return self._shares(matrix)

    def _shares_by_library(self, matrix: FloatMatrix) -> Shares:
        import xgboost

        shares = self._booster.predict(xgboost.DMatrix(matrix, nthread=1), pred_contribs=True)
        return np.asarray(shares, np.float64)

    def save(self, folder: Path) -> None:
        self._booster.save_model(folder / "model.ubj")


class XGBoost:
    """`Library` of XGBoost."""

    name = "xgboost"

    def fit(
        self, config: TreesConfig, monotone: Sequence[int], matrix: FloatMatrix, right: npt.NDArray[np.bool_]
    ) -> XGBoostTrees:
        import xgboost

        parameters = {
            "objective": "binary:logistic",
            "eta": config.learning_rate,
            "max_depth": config.depth,
            "min_child_weight": config.min_child_weight,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
            "tree_method": "hist",
            "monotone_constraints": str(tuple(monotone)),
            "seed": config.seed,
            "nthread": config.threads,
        }
        return XGBoostTrees(xgboost.train(parameters, xgboost.DMatrix(matrix, right), config.trees), len(monotone))

    def load(self, folder: Path, columns: int) -> XGBoostTrees:
        import xgboost

        booster = xgboost.Booster()
        try:
            booster.load_model(folder / "model.ubj")
        except xgboost.core.XGBoostError as error:
            raise ArtifactMismatch(f"{folder} cannot be read by this XGBoost. Run: tandem train") from error
        return XGBoostTrees(booster, columns)


class Guardrail:
    """A trained guardrail; `models.ports.TreeModel`. ``predict`` answers calibrated probabilities."""

    def __init__(self, trees: Trees, manifest: dict[str, Any]) -> None:
        self._trees = trees
        self.manifest = manifest
        self._columns = tuple(manifest["columns"])
        self._x = np.asarray(manifest["calibration"]["margin"])
        self._y = np.asarray(manifest["calibration"]["probability"])
        self.accept_at = float(manifest["accept_at"])
        self.reject_below = float(manifest["parameters"]["reject_below"])
        # What is made ready at first use is so before the first caller.
        nobody = np.zeros((1, len(self._columns)), np.float32)
        trees.margin(nobody)
        trees.shares(nobody)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        if not len(matrix):
            return np.empty(0)
        return np.asarray(np.interp(self._trees.margin(matrix), self._x, self._y), np.float64)

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return top_contributions(self._columns, matrix, self._trees.shares(matrix), top) if len(matrix) else []

    def verdict(self, probability: float) -> Verdict:
        """``accept`` from the threshold on that showed the stated precision, ``reject`` below the floor."""
        if probability >= self.accept_at:
            return "accept"
        return "reject" if probability < self.reject_below else "review"

    def with_facts(self, facts: Mapping[str, Any]) -> Guardrail:
        """The same model with more in its manifest."""
        return Guardrail(self._trees, {**self.manifest, **facts})

    def save(self, folder: Path) -> None:
        facts = {key: value for key, value in self.manifest.items() if key not in ("kind", "files", "created")}
        artifacts.save(folder, KIND, facts, self._trees.save)

    @staticmethod
    def load(folder: Path, columns: Sequence[str]) -> Guardrail:
        """Raises ArtifactMismatch where files are damaged, the library is none of ours or the columns are others."""
        manifest = artifacts.load(folder, KIND, {"columns": list(columns)})
        name = manifest["parameters"].get("model", "xgboost")
        if name not in MODELS:
            raise ArtifactMismatch(f"{folder} holds a model of {name!r}; this code knows {', '.join(MODELS)}")
        return Guardrail(library(name).load(folder, len(columns)), manifest)


def fit(
    config: TreesConfig,
    columns: Sequence[str],
    matrix: FloatMatrix,
    right: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    facts: Mapping[str, Any],
    monotone: Mapping[str, int] | None = None,
    progress: Callable[[float], None] = lambda _: None,
    folds: int = 5,
) -> Guardrail:
    """The guardrail of `fit_held_out`."""
    return fit_held_out(config, columns, matrix, right, groups, facts, monotone, progress, folds)[0]


def fit_held_out(
    config: TreesConfig,
    columns: Sequence[str],
    matrix: FloatMatrix,
    right: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    facts: Mapping[str, Any],
    monotone: Mapping[str, int] | None = None,
    progress: Callable[[float], None] = lambda _: None,
    folds: int = 5,
) -> tuple[Guardrail, FloatVector]:
    """Train on proposals [n] and calibrate on grouped cross-validation: a group is never on both sides.

    ``right``: whether a person (or the user's later purchases) agrees. ``monotone``: columns whose evidence may only
    raise (1) or lower (-1) the probability. The out-of-fold scores give the calibration and, for a GuardrailConfig, the
    accept threshold; the metrics in the manifest are cross-fitted once more, so that no group speaks for itself; the
    model itself is then fitted to everything. Also answers those cross-fitted probabilities [n]. Raises ValueError for
    fewer than two groups.
    """
    target = config.accept_precision if isinstance(config, GuardrailConfig) else None
    trees = library(config.model)
    constraints = tuple((monotone or {}).get(name, 0) for name in columns)
    distinct = np.unique(groups)
    if len(distinct) < 2:
        raise ValueError(
            f"a guardrail is calibrated on held-out groups, two groups at least; these {len(right)} proposals have "
            f"{len(distinct)}. Label proposals of more groups"
        )
    fold_of_group = np.random.default_rng(config.seed).permutation(len(distinct)) % folds
    fold = fold_of_group[np.searchsorted(distinct, groups)]
    margin = np.full(len(right), np.nan)
    for number in range(folds):
        held = fold == number
        if not held.any() or held.all():
            continue
        margin[held] = trees.fit(config, constraints, matrix[~held], right[~held]).by_library(matrix[held])
        progress((number + 1) / (folds + 1))
    scored = ~np.isnan(margin)
    x, y = _isotonic(margin[scored], right[scored])
    accept_at = _threshold(np.interp(margin[scored], x, y), right[scored], target)
    # Measured as a new group would see it: calibration and threshold of each fold come from the other folds.
    held_out = np.zeros(len(right))
    held_accept = np.full(len(right), np.inf)
    for number in range(folds):
        held, others = scored & (fold == number), scored & (fold != number)
        if not held.any() or not others.any():
            continue
        fold_x, fold_y = _isotonic(margin[others], right[others])
        held_out[held] = np.interp(margin[held], fold_x, fold_y)
        others_probability = np.interp(margin[others], fold_x, fold_y)
        held_accept[held] = _threshold(others_probability, right[others], target)
    manifest = {
        "columns": list(columns),
        "parameters": config.model_dump(),
        "monotone": dict(monotone or {}),
        "calibration": {"margin": x.tolist(), "probability": y.tolist()},
        "accept_at": accept_at,
        "held_out": _metrics(held_out[scored], right[scored], held_accept[scored]),
        "versions": artifacts.package_versions(trees.name, "numpy"),
        **facts,
    }
    final = trees.fit(config, constraints, matrix, right)
    progress(1.0)
    return Guardrail(final, manifest), held_out


def _isotonic(
    margin: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = 200
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A non-decreasing map margin -> probability: pool adjacent violators over at most ``bins`` quantile bins.

    The lowest and the highest block answer at most what (right + 1) / (n + 2) does, so that none claims certainty;
    the others keep their rates: a prior in every bin would pull all probabilities towards a half.
    """
    order = np.argsort(margin, kind="stable")
    parts = np.array_split(order, min(bins, max(1, len(order) // 20)))
    blocks: list[list[float]] = []
    for part in parts:
        if not len(part):
            continue
        blocks.append([float(margin[part].mean()) * len(part), float(right[part].sum()), float(len(part))])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last)]
    total, hits, size = np.array(blocks).T
    y = hits / size
    # After pooling only the first block can be at 0 and only the last at 1.
    floor, ceiling = 1 / (size[0] + 2), (size[-1] + 1) / (size[-1] + 2)
    if len(y) > 1:
        floor, ceiling = min(floor, y[1]), max(ceiling, y[-2])
    return total / size, np.clip(y, floor if y[0] == 0 else 0.0, ceiling if y[-1] == 1 else 1.0)


def _threshold(probability: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], precision: float | None) -> float:
    """The lowest probability from which on the held-out precision reaches the target; above 1 where none does.

    An estimate, not a certificate: it carries no confidence statement. Without a target nothing is accepted by it.
    """
    if precision is None:
        return _NEVER
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(right[order])
    rate = hits / np.arange(1, len(order) + 1)
    # A threshold takes all proposals of equal probability, so it may only stand where the next one differs.
    boundary = np.r_[np.diff(probability[order]) != 0, True]
    enough = np.flatnonzero((rate >= precision) & boundary & (np.arange(1, len(order) + 1) >= 30))
    return float(probability[order][enough[-1]]) if len(enough) else _NEVER


def _metrics(
    probability: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], accept_at: float | npt.NDArray[np.float64]
) -> dict[str, Any]:
    accepted = probability >= accept_at
    bins = np.minimum((probability * 10).astype(int), 9)
    weight = np.bincount(bins, minlength=10)
    gap = np.abs(np.bincount(bins, probability, 10) - np.bincount(bins, right, 10))
    _, code, count = np.unique(probability, return_inverse=True, return_counts=True)
    # Equal probabilities share their mean rank: calibration makes many of them.
    rank = (np.cumsum(count) - (count - 1) / 2)[code]
    positives = int(right.sum())
    negatives = len(right) - positives
    area = (rank[right].sum() - positives * (positives + 1) / 2) / max(1, positives * negatives)
    return {
        "proposals": float(len(right)),
        "base_rate": float(right.mean()),
        "auc": float(area),
        "brier": float(np.mean((probability - right) ** 2)),
        "ece": float(gap.sum() / max(1, weight.sum())),
        "accepted_share": float(accepted.mean()),
        "accepted_precision": float(right[accepted].mean()) if accepted.any() else None,
    }
