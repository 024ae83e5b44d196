"""Values of free attributes in a product's words: who proposes them, how sure that is, and what may be accepted.

A value is a stretch of the item's title or text that its attribute's schema reads (`models.attributes`): what stands in
neither, or is no value of the schema, is never proposed, whoever says it. How often a proposal of its kind is right was
counted on a catalog's own column (`training/values.py`), and a certificate on product types held out of those counts
says from which probability on a value is accepted. Without gold, or where only an LLM found it, people decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

from models import artifacts
from models.attributes import Attribute, BadAttribute, Value, attribute, normal, runs
from models.certify import Bound, Certificate, CertifyConfig
from models.errors import ArtifactMismatch
from models.guardrail import Verdict
from models.llm.spans import span_logprob, string_values
from models.neutral import neutralize
from models.policy import Warrant
from models.ports import LLMRequest, LLMResult
from models.prompts import Prompt
from models.tagging import TagItem

KIND: Final = "attributes"
GROUP: Final = "attribute:"
"""Begins the name of the group that an attribute's values are audited and switched to review in."""
READ: Final = 600
"""Characters of each of an item's fields that are read: as many as an LLM is shown."""
UNKNOWN: Final = 0.5
"""The probability of a value that nothing was counted for."""
Source = Literal["pattern", "name", "catalog", "llm"]
"""``pattern``: a number with its unit, or the schema's pattern; ``name``: of an enum's value; ``catalog``: items of the
catalog have this value."""
_RIVALS: Final = 3
_EDGES: Final = (0.5, 0.8, 0.95)
_VALUES: Final = 4
"""Values an LLM may name of one attribute that allows several."""
_FILE: Final = "values.json"


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it stands: characters [start, end) of the item's ``field`` ("title" or "text").

    ``fields``: all that have it. ``rivals``: how many values of the attribute were found in the item, at most 3.
    ``llm_logprob``: of an LLM's words, NaN where it does not tell, None where none proposed it.
    """

    attribute: str
    value: Value
    field: str
    start: int
    end: int
    sources: tuple[Source, ...]
    fields: tuple[str, ...]
    rivals: int = 1
    llm_logprob: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a catalog says of one attribute.

    ``values``: by `word`, how many products that mention it have it as their value, and how many mention it. ``right``:
    by `sign`, how many proposals were right, and how many there were. ``certificate``: None without gold, and
    ``reason`` says why.
    """

    values: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    right: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    certificate: Certificate | None = None
    reason: str = "no catalog has this attribute: nothing shows how often its values are right"


@dataclass(frozen=True, slots=True)
class Judged:
    """A proposed value with its probability, verdict, and what that rests on."""

    found: Found
    probability: float
    verdict: Verdict
    warrant: Warrant


def _nobody(group: str) -> bool:  # noqa: ARG001 - the shape of a hook
    return False


@dataclass(frozen=True, slots=True, eq=False)
class ValueJudge:
    """Attributes of a release: what is known of each, and verdicts.

    ``review_only``: whether a group is switched to review, as in `models.policy.TagPolicy`.
    """

    attributes: tuple[Attribute, ...]
    known: Mapping[str, Known]
    config: CertifyConfig
    reject_below: float
    review_only: Callable[[str], bool] = field(default=_nobody)

    def propose(self, item: TagItem, llm: Mapping[str, LLMValues] | None = None) -> list[Found]:
        """Every value that stands in the item's words, by attribute, the likeliest first. ``llm``: `read_values`."""
        found = []
        for one in self.attributes:
            known = self.known[one.name]
            proposed = propose(one, known.values, item, (llm or {}).get(one.name, ()))
            found += sorted(proposed, key=lambda each: (-rate(known, one, each), each.field != "title", each.start))
        return found

    def judge(self, proposed: Sequence[Found]) -> list[Judged]:
        """A verdict on each of an item's values (``propose``'s, all of them): of an attribute that allows one, no
        other than the first is accepted."""
        by_name = {one.name: one for one in self.attributes}
        judged, seen = [], set()
        for found in proposed:
            one = by_name[found.attribute]
            first = found.attribute not in seen
            seen.add(found.attribute)
            judged.append(self._judged(one, found, first or one.several))
        return judged

    def _judged(self, one: Attribute, found: Found, best: bool) -> Judged:
        known, group = self.known[one.name], GROUP + one.name
        probability = rate(known, one, found)
        bound = known.certificate.of()[1] if known.certificate else Bound(inf, 0, 0, 0, 0.0, known.reason)
        reason = ""
        if bound.threshold == inf:
            reason = f"{group} cannot accept: {bound.reason}"
        elif found.sources == ("llm",):
            reason = "only an LLM found it, and no certificate is about what an LLM says"
        elif sign(one, known.values, found) not in known.right:
            reason = "nothing like it was counted"
        elif not best:
            reason = "another value is likelier, and an item has one"
        elif not probability >= bound.threshold:
            reason = f"scores {probability:.4f}; {group} accepts from {bound.threshold:.4f} on"
        elif self.review_only(group):
            reason = f"{group} is switched to review: its audit fell below the promise"
        warrant = Warrant(
            group,
            group,
            sign(one, known.values, found),
            probability,
            self.config.precision,
            self.config.confidence,
            bound,
            reason,
        )
        verdict: Verdict = "accept" if not reason else "reject" if probability < self.reject_below else "review"
        return Judged(found, probability, verdict, warrant)

    def request(self, template: Prompt, item: TagItem, proposed: Sequence[Found]) -> LLMRequest | None:
        """What asks an LLM for attributes of free text that nothing was found for; None where there are none.

        Numbers and names of an enum are found where they stand: an LLM could only say what does not.
        """
        there = {found.attribute for found in proposed}
        wanted = [one for one in self.attributes if one.kind == "text" and one.name not in there]
        if not wanted:
            return None
        lines = [f"- {one.name}: {one.definition}" if one.definition else f"- {one.name}" for one in wanted]
        return template.request(
            {
                "title": neutralize(item.title)[:300],
                "text": neutralize(item.text)[:READ] or "-",
                "attributes": "\n".join(lines),
            },
            schema=schema(wanted),
        )

    def save(self, folder: Path) -> None:
        """As an artifact: the schemas, and what was counted."""
        content = {
            "attributes": [one.to_row() for one in self.attributes],
            "known": {
                name: {
                    "values": {key: list(counts) for key, counts in known.values.items()},
                    "right": {key: list(counts) for key, counts in known.right.items()},
                    "certificate": known.certificate.to_dict() if known.certificate else None,
                    "reason": known.reason,
                }
                for name, known in self.known.items()
            },
            "certify": self.config.model_dump(),
            "reject_below": self.reject_below,
        }
        facts = {"attributes": [one.name for one in self.attributes]}
        text = json.dumps(content, ensure_ascii=False)

        def write(where: Path) -> None:
            (where / _FILE).write_text(text, encoding="utf-8")

        artifacts.save(folder, KIND, facts, write)

    @staticmethod
    def load(folder: Path) -> ValueJudge:
        """Raises ArtifactMismatch where files are damaged or hold something else."""
        artifacts.load(folder, KIND)
        try:
            content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return ValueJudge(
                tuple(attribute(row, number) for number, row in enumerate(content["attributes"], 1)),
                {
                    str(name): Known(
                        _counts(known["values"]),
                        _counts(known["right"]),
                        Certificate.from_dict(known["certificate"]) if known["certificate"] else None,
                        str(known["reason"]),
                    )
                    for name, known in content["known"].items()
                },
                CertifyConfig(**content["certify"]),
                float(content["reject_below"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, BadAttribute) as error:
            raise ArtifactMismatch(f"{folder / _FILE} cannot be read ({error!r}). Run: tandem train") from error


LLMValues = Sequence[tuple[str, float]]
"""What an LLM said of an attribute: words, and their log-probability (NaN unknown)."""


def unlearned(attributes: Sequence[Attribute], config: CertifyConfig, reject_below: float) -> ValueJudge:
    """A judge that nothing was counted for: it proposes, and people decide."""
    known = {one.name: Known() for one in attributes}
    return ValueJudge(tuple(attributes), known, config, reject_below)


def propose(one: Attribute, values: Mapping[str, tuple[int, int]], item: TagItem, llm: LLMValues = ()) -> list[Found]:
    """An item's values of one attribute, in the order of the words. ``values``: see `Known`."""
    found: dict[str, Found] = {}
    for name, text in (("title", item.title[:READ]), ("text", item.text[:READ])):
        for start, end, source, logprob in _spans(one, values, text, llm):
            value = one.read(text[start:end])
            if value is None:
                continue
            other = found.get(value.key)
            if other is None:
                found[value.key] = Found(one.name, value, name, start, end, (source,), (name,), 1, logprob)
                continue
            found[value.key] = replace(
                other,
                sources=tuple(dict.fromkeys((*other.sources, source))),
                fields=tuple(dict.fromkeys((*other.fields, name))),
                llm_logprob=logprob if other.llm_logprob is None else other.llm_logprob,
            )
    # What an LLM adds does not change what is known of the others: it is no rival of theirs.
    rivals = min(_RIVALS, sum(each.sources != ("llm",) for each in found.values()))
    return [replace(each, rivals=max(1, rivals)) for each in found.values()]


def _spans(
    one: Attribute, values: Mapping[str, tuple[int, int]], text: str, llm: LLMValues
) -> Iterator[tuple[int, int, Source, float | None]]:
    """Where ``text`` may have values, and who says so. A run of words within one that was taken is none."""
    if one.kind == "number":
        yield from ((start, end, "pattern", None) for start, end, _ in one.numbers(text))
        return
    wanted = {normal(words): logprob for words, logprob in llm}
    taken: dict[Source, int] = {}
    for start, end, words in runs(text, one.most_words):
        said: list[Source] = []
        if one.kind == "enum":
            said += ["name"] if words in one.names else []
        else:
            said += ["pattern"] if one.pattern and one.read(text[start:end]) is not None else []
            said += ["catalog"] if words in values else []
            said += ["llm"] if words in wanted else []
        for source in said:
            if start >= taken.get(source, 0):
                taken[source] = end
                yield start, end, source, wanted[words] if source == "llm" else None


def word(one: Attribute, value: Value) -> str:
    """What is counted of a value: of a number its unit, for numbers are many and seldom seen twice."""
    return value.unit if one.kind == "number" else value.key


def sign(one: Attribute, values: Mapping[str, tuple[int, int]], found: Found) -> str:
    """What there is to tell how sure a proposal is; those of one sign are counted together.

    Who proposed it beside the LLM, where it stands, how many rivals it has, and how often a product that mentions this
    very value has it.
    """
    sources = [source for source in found.sources if source != "llm"]
    if not sources:
        return "llm"
    right, mentioned = values.get(word(one, found.value), (0, 0))
    share = (right + 1) / (mentioned + 2)
    seen = sum(share >= edge for edge in _EDGES)
    rivals = "one value" if found.rivals == 1 else f"{found.rivals}{'+' * (found.rivals == _RIVALS)} values"
    usual = ("seldom", "often", "mostly", "nearly always")[seen]
    return f"{'+'.join(sorted(sources))} in {'+'.join(sorted(found.fields))}, {rivals}, {usual} right"


def rate(known: Known, one: Attribute, found: Found) -> float:
    """How probable it is that a proposal is right: the share of those of its sign, drawn to a half by two of each."""
    counted = known.right.get(sign(one, known.values, found))
    return UNKNOWN if counted is None else (counted[0] + 1) / (counted[1] + 2)


def schema(wanted: Sequence[Attribute]) -> dict[str, object]:
    """JSON schema of an LLM's answer: an object with a list of texts for each attribute."""
    return {
        "type": "object",
        "properties": {
            one.name: {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": _VALUES if one.several else 1,
            }
            for one in wanted
        },
        "required": [one.name for one in wanted],
        "additionalProperties": False,
    }


def read_values(result: LLMResult, attributes: Sequence[Attribute]) -> dict[str, LLMValues]:
    """What an LLM said, by attribute; believed where the item's words have it (`ValueJudge.propose`)."""
    return {
        one.name: [
            (said.value, span_logprob(result, said.start, said.end)) for said in string_values(result.text, one.name)
        ]
        for one in attributes
    }


def _counts(value: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {str(key): (int(right), int(all_)) for key, (right, all_) in value.items()}
