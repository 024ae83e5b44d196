"""What a vocabulary says of a catalog's labels: its entries matched to the values of the label column.

A catalog's labels are its column's values; a vocabulary says what they are called, what they mean and what is wider,
and adds the entries that no item carries yet. The tag stays the column's value, or such an entry's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models import vocabulary
from models.errors import InvalidVocabulary
from models.neutral import neutralize
from models.ports import Embedder, FloatMatrix
from models.text import embedding_text, readable, words
from models.vocabulary import Label, Vocabulary

MOST_LABELS: Final = 5_000
"""Labels a catalog may have with a vocabulary's: cold starts keep a number for every pair of them."""
_SYNONYMS: Final = 8
_SYNONYM_WORDS: Final = 4
_DEFINITION: Final = 240
_EXAMPLES: Final = 8
_TOLD: Final = 80
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a vocabulary says of one label, as far as it is used.

    ``synonyms``: the first few that an English embedder can read; ``parents``: wider labels of the catalog;
    ``examples``: those that became part of the label's vector.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    definition: str = ""
    parents: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the label may be called, its name first."""
        return (self.name, *self.synonyms)

    @property
    def text(self) -> str:
        """Its names and its definition, as they are embedded: of a name alone what `models.text.readable` makes."""
        called = readable(" ".join(self.names))
        return f"{called}. {self.definition.lower()}" if self.definition else called

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Meaning:
        """What ``asdict`` made, after a journey through JSON."""
        several = {name: tuple(row[name]) for name in ("synonyms", "parents", "examples")}
        return Meaning(row["name"], definition=row["definition"], **several)

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


def read_labels(path: Path, several: bool = False) -> Vocabulary:
    """A vocabulary whose labels Tag shall choose from: one of them an item, or ``several``.

    Raises InvalidVocabulary as `vocabulary.read` does, for one without labels, and where one label an item is asked for
    and it allows several.
    """
    made = vocabulary.read(path)
    if not made.entries:
        raise InvalidVocabulary(f"{path} declares no labels; list them under 'labels', or leave it out of [train]")
    if made.several and not several:
        raise InvalidVocabulary(
            f"{path} lets an item carry several of its labels, and train.labels is of one label an item; give a file "
            'that says "several": false, or name it under train.several beside the list column that it is of'
        )
    return made


def meanings_of(made: Vocabulary, values: Sequence[str], texts: Set[str] = frozenset()) -> dict[str, Meaning]:
    """What the vocabulary says, by label: of those ``values`` of the column that it knows, and of its further entries.

    An entry is a value's by its id, else by its name without regard to case. ``texts``: the catalog's own, in lower
    case; an example that is one of them is left out. Neighbours speak for it already, and in training they hide whose
    label is asked for, which a label's vector cannot. Raises InvalidVocabulary where no entry is a value's, where two
    entries share a value's name, and where there would be more than `MOST_LABELS`.
    """
    by_name: dict[str, list[str]] = {}
    for entry in made.entries:
        by_name.setdefault((entry.name or entry.id).casefold(), []).append(entry.id)
    entry_of: dict[str, str] = {}
    for value in values:
        found = [value] if value in made.labels else by_name.get(value.casefold(), [])
        if len(found) > 1:
            raise InvalidVocabulary(
                f"vocabulary {made.name!r}: {value!r} of the catalog is the name of {len(found)} labels "
                f"({_some(found)}); give the one that is meant the id {value!r}"
            )
        if found:
            entry_of[value] = found[0]
    if not entry_of:
        raise InvalidVocabulary(
            f"vocabulary {made.name!r}: none of its labels ({_some([entry.id for entry in made.entries])}) is a value "
            f"of the catalog's label column ({_some(values)}); give its labels these values as ids or as names"
        )
    labels_of: dict[str, list[str]] = {}
    for value, entry_id in entry_of.items():
        labels_of.setdefault(entry_id, []).append(value)
    fresh = [entry.id for entry in made.entries if entry.id not in labels_of]
    if len(values) + len(fresh) > MOST_LABELS:
        raise InvalidVocabulary(
            f"vocabulary {made.name!r} would add {len(fresh)} labels to the {len(values)} of the catalog, at most "
            f"{MOST_LABELS} are kept; leave out what is not sold"
        )
    labels_of |= {entry_id: [entry_id] for entry_id in fresh}

    def meaning(entry: Label) -> Meaning:
        parents = (label for parent in entry.parents for label in labels_of[parent])
        examples = (each for each in entry.examples if embedding_text(each, None).lower() not in texts)
        return Meaning(
            entry.name or entry.id,
            tuple(_synonyms(entry)),
            entry.definition[:_DEFINITION].strip(),
            tuple(dict.fromkeys(parents)),
            tuple(dict.fromkeys(examples))[:_EXAMPLES],
        )

    return {label: meaning(made.labels[entry_id]) for entry_id, labels in labels_of.items() for label in labels}


def _synonyms(entry: Label) -> Iterator[str]:
    """The embedder reads English: other scripts say nothing to it, and a long list drowns the name."""
    seen = {entry.name.casefold()}
    for each in entry.synonyms:
        key = each.casefold()
        if each.isascii() and len(each.split()) <= _SYNONYM_WORDS and key not in seen and len(seen) <= _SYNONYMS:
            seen.add(key)
            yield each


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def text_of(label: str, meaning: Meaning | None) -> str:
    """What of a label is embedded, but for examples."""
    return readable(label) if meaning is None else meaning.text


def vectors_of(labels: Sequence[str], meanings: Mapping[str, Meaning], embedder: Embedder) -> FloatMatrix:
    """A vector of norm 1 for each label [L, d]: of its words; with examples the mean of that and of their mean.

    One vector a label, as in prototypical networks (Snell et al. 2017): one example cannot speak for a label alone. For
    half of The Complete Journey's units, with up to three titles of the other half a label, the right one is nearest
    for .43 and among the four nearest for .63; with the nearest of name and examples .39 and .62, with names and
    examples as one text .40 and .62, with names alone .33 and .50 (means of three draws).
    """
    vectors = embedder.embed([text_of(label, meanings.get(label)) for label in labels])
    shown = [(row, meanings[label].examples) for row, label in enumerate(labels) if label in meanings]
    shown = [(row, examples) for row, examples in shown if examples]
    if shown:
        made = embedder.embed([embedding_text(each, None) for _, examples in shown for each in examples])
        at = 0
        for row, examples in shown:
            mean = vectors[row] + made[at : at + len(examples)].mean(axis=0)
            at += len(examples)
            # Opposite vectors have no mean; the words alone stand then.
            if (norm := float(np.linalg.norm(mean))) > 0:
                vectors[row] = mean / norm
    return vectors


def stems_of(labels: Sequence[str], meanings: Mapping[str, Meaning]) -> tuple[tuple[frozenset[str], ...], ...]:
    """The words (see `models.text.words`) of each name a label has, by code."""
    return tuple(
        tuple(words(readable(name)) for name in (meanings[label].names if label in meanings else (label,)))
        for label in labels
    )


def choice_line(label: str, meaning: Meaning | None) -> str:
    """A choice as an LLM reads it: the label as it must be answered, then its name where that is another one, and the
    beginning of its definition. The vocabulary's words are made harmless before they are cut."""
    if meaning is None:
        return f"- {label}"
    name = neutralize(meaning.name) if readable(meaning.name) != readable(label) else ""
    told = ". ".join(part for part in (name, neutralize(meaning.definition)) if part)
    return f"- {label}: {told[:_TOLD].rstrip()}" if told else f"- {label}"
