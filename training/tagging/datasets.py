"""Gold for tagging: groups of items with known labels, and what of them may be seen when the labels are hidden."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.workspace import Workspace
from models.ports import Embedder
from models.text import embedding_text, readable, words
from training.tagging import views
from training.tagging.kernels import IntArray
from training.tagging.views import Matrix, Rows

FloatArray = npt.NDArray[np.float64]

COMPLETE_JOURNEY: Final = "complete-journey"


@dataclass(frozen=True, eq=False)
class TagData:
    """T groups of items (a product type), L labels; the group is the unit of splitting, of certifying and of judging.

    ``texts``: what a group's items say of themselves. ``counts`` float64 [T, L]: how many of a group's items carry each
    label; a group of none can be asked about, and neither trains nor tests. ``views``: name -> unit rows [T, columns].
    ``mixes``: name -> weight by view, kernels that add views up. ``names``: how like a label's own name a group's text
    is, by way of comparing, float32 [T, L]. ``facts`` float32 [T, k] of the group alone, named by ``fact_names``.
    ``several``: a group is one item of any number of labels, and ``counts`` says 1 for each that it has.
    """

    name: str
    groups: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    counts: FloatArray
    views: Mapping[str, Rows]
    mixes: Mapping[str, Mapping[str, float]]
    names: Mapping[str, Matrix]
    facts: Matrix
    fact_names: tuple[str, ...]
    several: bool = False

    @cached_property
    def shares(self) -> Matrix:
        """Share of each label among a group's items [T, L]; of one item with ``several`` labels 1 for each."""
        if self.several:
            return self.counts.astype(np.float32)
        return np.asarray(self.counts / np.maximum(1.0, self.counts.sum(axis=1, keepdims=True)), np.float32)

    @cached_property
    def gold(self) -> IntArray:
        """The label most of a group's items carry [T]; of equally many the first by name."""
        return np.asarray(self.counts.argmax(axis=1), np.int64)

    @cached_property
    def kernels(self) -> dict[str, Matrix]:
        """Similarities [T, T] by every view and mix, and by the mixes' products (see `_with_products`)."""
        plain = {name: views.similarity(rows) for name, rows in self.views.items()}
        mixed = {
            name: np.asarray(sum(weight * plain[view] for view, weight in weights.items()), np.float32)
            for name, weights in self.mixes.items()
        }
        return _with_products({**plain, **mixed})


def _with_products(kernels: dict[str, Matrix]) -> dict[str, Matrix]:
    """With ``both``: two groups are alike there where text, maker and company agree two at a time.

    A product of kernels is the kernel of all pairs of their features, which no sum of views has.
    """
    if not {"text", "maker", "basket", "all"} <= kernels.keys():
        return kernels
    text, maker, basket = kernels["text"], kernels["maker"], kernels["basket"].clip(0)
    pairs = maker * text + basket * text + maker * basket
    if "offer" in kernels:
        pairs += kernels["offer"].clip(0) * (text + maker)
    return {**kernels, "both": kernels["all"] + 4.0 * pairs}


def complete_journey(
    workspace: Workspace, embedder: Embedder, progress: Callable[[str, float], None] = lambda *_: None
) -> TagData:
    """The Complete Journey by product type, from an ingested workspace: category is the label, department is hidden.

    Raises WorkspaceError where nothing was ingested.
    """
    workspace.config()
    items = pl.read_parquet(workspace.items).filter(
        pl.col("product_type").is_not_null() & pl.col("category").is_not_null()
    )
    events = pl.read_parquet(workspace.interactions, columns=["user_id", "item_id", "session_id", "place", "price"])
    types, group = coded(items["product_type"])
    labels, label = coded(items["category"])
    counts = np.zeros((len(types), len(labels)))
    np.add.at(counts, (group, label), 1.0)
    titles = dict(zip(items["product_type"].to_list(), items["title"].to_list()))
    texts = [embedding_text(titles[name], None) for name in types]
    names = [readable(name) for name in labels]
    progress("tags: embedding", 0.0)
    vectors, name_vectors = embedded(workspace, embedder, texts, names)
    characters, name_characters = views.character_view(texts, names)
    sizes = items["package_size"].to_list()
    makers = items["manufacturer"].to_list()
    owners = owner_of_event(events, items["item_id"].to_list(), group)
    progress("tags: purchases", 0.5)
    found: dict[str, Rows] = {
        "word": views.word_view(texts),
        "letters": characters,
        "meaning": vectors,
        "maker": views.value_view(group, makers, len(types)),
        "size": views.value_view(group, sizes, len(types)),
        "unit": views.value_view(group, [_unit(size) for size in sizes], len(types)),
        "maker_size": views.value_view(
            group, [None if size is None else f"{maker} {size}" for maker, size in zip(makers, sizes)], len(types)
        ),
        **purchase_views(events, owners, len(types)),
        **offer_view(workspace, items["item_id"].to_list(), group, len(types)),
    }
    brand = np.bincount(group, items["brand"].to_numpy() == "Private", len(types)) / counts.sum(axis=1)
    bought = np.log1p(np.bincount(owners[owners >= 0], minlength=len(types)))
    maker_counts = np.diff(found["maker"].indptr)
    facts = np.stack(
        (np.log(counts.sum(axis=1)), maker_counts, bought, brand, [len(words(text)) for text in texts]), axis=1
    )
    return TagData(
        COMPLETE_JOURNEY,
        types,
        tuple(texts),
        labels,
        counts,
        found,
        {
            "text": {"word": 0.3, "letters": 0.3, "meaning": 0.4},
            "all": {
                "word": 1.0,
                "letters": 1.0,
                "meaning": 1.0,
                "maker": 2.0,
                "size": 0.5,
                "unit": 0.3,
                "maker_size": 0.5,
                "basket": 1.0,
                "household": 0.5,
                "price": 0.2,
                "store": 0.2,
                **({"offer": 1.5} if "offer" in found else {}),
            },
        },
        {
            "meaning": views.similarity(vectors, name_vectors),
            "letters": views.similarity(characters, name_characters),
            **name_overlap(texts, names),
        },
        facts.astype(np.float32),
        ("log_items", "makers", "log_bought", "private_share", "words"),
    )


def purchase_views(events: pl.DataFrame, owners: IntArray, groups: int) -> dict[str, Rows]:
    """What groups are bought with, by whom, and, where ``events`` say it, for how much and where; ``owners`` [events]
    as of `owner_of_event`."""
    known = owners >= 0
    group = owners[known]
    place = {
        name: coded(events[name])[1][known] for name in ("session_id", "user_id", "place") if name in events.columns
    }
    found = {
        "basket": views.company_view(group, place["session_id"], groups),
        "household": views.company_view(group, place["user_id"], groups),
    }
    if "price" in events.columns:
        price = events["price"].cast(pl.Float64).fill_null(float("nan")).to_numpy()[known]
        found["price"] = views.price_view(group, price, groups)
    if "place" in place:
        found["store"] = views.value_view(group, [str(store) for store in place["place"]], groups)
    return found


def offer_view(workspace: Workspace, item_ids: Sequence[str], group: IntArray, groups: int) -> dict[str, Rows]:
    """Which groups stand together in the workspace's offers; none where it has none. ``group`` [items], -1 for none."""
    if not workspace.offers.is_file():
        return {}
    offers = pl.read_parquet(workspace.offers)
    owner = owner_of_event(offers, item_ids, group)
    known = owner >= 0
    return {"offer": views.together_view(owner[known], coded(offers["offer_id"])[1][known], groups)}


def coded(column: pl.Series) -> tuple[tuple[str, ...], IntArray]:
    """Values in order, and each row's number among them."""
    text = column.cast(pl.String)
    names = text.unique().sort()
    codes = text.replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    return tuple(names.to_list()), codes.to_numpy()


def owner_of_event(events: pl.DataFrame, item_ids: Sequence[str], group: IntArray) -> IntArray:
    """The group of each event's item [events], -1 where it has none."""
    return (
        events["item_id"]
        .replace_strict(pl.Series(item_ids), pl.Series(group), default=-1, return_dtype=pl.Int64)
        .to_numpy()
    )


def _unit(size: str | None) -> str | None:
    """The letters of a size: ``14.5 OZ`` -> ``oz``."""
    return None if size is None else "".join(letter for letter in size.lower() if letter.isalpha()) or None


def name_overlap(texts: Sequence[str], names: Sequence[str]) -> dict[str, Matrix]:
    """Shared words of a text and a label's name, as a share of the name's and of all words of the two."""
    stems = sorted(set().union(*(words(text) for text in (*texts, *names))))
    code = {stem: at for at, stem in enumerate(stems)}

    def bags(lines: Sequence[str]) -> Matrix:
        rows = np.zeros((len(lines), len(stems)), np.float32)
        for row, line in enumerate(lines):
            rows[row, [code[stem] for stem in words(line)]] = 1.0
        return rows

    left, right = bags(texts), bags(names)
    shared = left @ right.T
    of_name = np.maximum(1.0, right.sum(axis=1))
    either = np.maximum(1.0, left.sum(axis=1)[:, None] + of_name - shared)
    return {"covered": shared / of_name, "overlap": shared / either}


def embedded(
    workspace: Workspace, embedder: Embedder, texts: Sequence[str], names: Sequence[str]
) -> tuple[Matrix, Matrix]:
    """Embeddings of texts and names, kept in the workspace under a hash of what was embedded."""
    wanted = [*texts, *names]
    digest = hashlib.sha256("\0".join((embedder.model_id, *wanted)).encode()).hexdigest()[:16]
    path: Path = workspace.root / "tagging" / f"vectors-{digest}.npy"
    if path.is_file():
        vectors = np.load(path, allow_pickle=False)
    else:
        vectors = embedder.embed(wanted)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npy")
        np.save(temporary, vectors, allow_pickle=False)
        temporary.replace(path)
    return vectors[: len(texts)], vectors[len(texts) :]
