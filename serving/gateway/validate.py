"""What is wrong with an answer, and what can be done about it: a small mend here, or one more turn of the LLM.

An answer is believed as far as its schema goes and no further; what its words are worth, the guardrail decides.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import UnknownType, ValidationError  # type: ignore[import-untyped]

from models.neutral import neutralize
from models.ports import LLMRequest, LLMResult, Token
from serving.gateway.ports import Ask, Problem

_CHARACTERS_PER_TOKEN: Final = 32
"""More than any tokenizer's average by far: what is longer was not bounded by the provider."""
_SHOWN: Final = 200
"""Characters of a bad answer that its repair may quote."""
_DEPTH: Final = 64
"""Levels of nesting; a valid answer of ours has two."""

_REFUSAL = re.compile(
    r"^\W*(?:(?:i\s*am|i['’]m|we(?:\s+are|['’]re))\s+(?:very\s+|so\s+|really\s+)?(?:sorry|unable|afraid)\b"
    r"|(?:my\s+)?apolog(?:ies|y)\b|i\s+apologi[sz]e\b"
    r"|(?:sorry|unfortunately)\b[,.]?\s+(?:but\s+)?(?:i|we)\b"
    r"|(?:i|we)\s+(?:can(?:no|['’])?t|can\s+not|am\s+not\s+able\s+to|won['’]?t|will\s+not|must\s+decline|do\s+not\s+feel"
    r"|don['’]?t\s+feel)\b"
    r"|as\s+an?\s+(?:ai|artificial|language\s+model|large\s+language)\b"
    r"|lo\s+siento\b|no\s+puedo\b|je\s+(?:suis\s+désolée?|ne\s+peux\s+pas)\b|désolée?\b"
    r"|es\s+tut\s+mir\s+leid\b|ich\s+kann\s+(?:das|dir|ihnen|dabei)\b|desculpe\b|mi\s+dispiace\b|我(?:不能|无法)|抱歉|对不起)",
    re.IGNORECASE,
)
_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<comma>,)(?=\s*[\]}])', re.DOTALL)


def problem_of(ask: Ask, result: LLMResult) -> Problem:
    """What is wrong with an answer, "" where nothing is: that it is whole, then its schema, then the task's check.

    ``truncated`` covers an answer beyond the request's bounds, ``taxonomy`` one that names a value outside the
    schema's enumeration. Never raises for what an answer holds.
    """
    request, text = ask.request, result.text
    if not text.strip():
        return "truncated" if result.finish == "length" else "empty"
    if result.finish != "stop" or len(text) > _CHARACTERS_PER_TOKEN * request.max_tokens:
        return "truncated"
    if request.json_schema is None:
        if _REFUSAL.match(text):
            return "refused"
    else:
        problem, _ = _schema_problem(text, request.json_schema)
        if problem:
            return problem
    return ask.check(result) if ask.check is not None else ""


class AnswerValidator:
    """`serving.gateway.ports.Validator` by the functions of this module."""

    def problem(self, ask: Ask, result: LLMResult) -> Problem:
        """See `problem_of`."""
        return problem_of(ask, result)

    def mend(self, ask: Ask, result: LLMResult) -> LLMResult | None:
        """See `mend`."""
        return mend(ask, result)

    def repair(self, ask: Ask, result: LLMResult, problem: Problem) -> LLMRequest | None:
        """See `repair_request`."""
        return repair_request(ask, result, problem)


def valid_under(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a text is JSON that satisfies the schema. Raises ValueError for a schema that is none."""
    return not _schema_problem(text, schema)[0]


def mend(ask: Ask, result: LLMResult) -> LLMResult | None:
    """The answer without what surrounds its JSON (a code fence, prose) and without commas before a closing bracket,
    where that alone makes it right; None where it does not, or where it was right to begin with.

    Only ever deletes characters, so the tokens that remain keep their log-probabilities. Costs no LLM call and counts
    as repaired.
    """
    if ask.request.json_schema is None or problem_of(ask, result) not in ("malformed", "refused"):
        return None
    text = result.text
    for start, end in _objects(text):
        gone = {match.start() for match in _TRAILING_COMMA.finditer(text, start, end) if match.group("comma")}
        kept = [at for at in range(start, end) if at not in gone]
        mended = replace(result, text="".join(text[at] for at in kept), tokens=_tokens(result, kept))
        if not problem_of(ask, mended):
            return mended
    return None


def repair_request(ask: Ask, result: LLMResult, problem: Problem) -> LLMRequest | None:
    """The same question once more, with what was wrong with the answer; schema, system text and bounds are the same.

    None where asking again is pointless (nothing wrong, a refusal). Quotes at most 200 characters of the bad answer, as
    a JSON string on one line.
    """
    if problem in ("", "refused"):
        return None
    shown = json.dumps(neutralize(result.text)[:_SHOWN], ensure_ascii=False)
    wrong = _WRONG[problem]
    if problem in ("schema", "taxonomy") and ask.request.json_schema is not None:
        wrong = _schema_problem(result.text, ask.request.json_schema)[1] or wrong
    form = "Answer with one JSON object of the required form and nothing else." if ask.request.json_schema else ""
    turn = f"{ask.request.user}\n\nAn earlier answer to this was refused: {wrong}. It began {shown}. {form}".rstrip()
    return replace(ask.request, user=turn)


_WRONG: Final[Mapping[Problem, str]] = {
    "malformed": "it is no valid JSON",
    "schema": "its JSON has another form than required",
    "taxonomy": "it names something that is not among the choices",
    "unknown_id": "it names an id that does not exist",
    "truncated": "it was too long; be brief",
    "unsafe": "its wording is not fit for a customer",
    "empty": "it was empty",
}


def _schema_problem(text: str, schema: Mapping[str, Any]) -> tuple[Problem, str]:
    """The problem and a sentence about it that quotes no more than the name of a rule."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return ("refused" if _REFUSAL.match(text) else "malformed"), _WRONG["malformed"]
    if _deeper(value, _DEPTH):
        return "malformed", _WRONG["malformed"]
    if _plainly_valid(value, schema):
        return "", ""
    try:
        # Made anew each time (14 microseconds): nearly every request has choices, so a schema, of its own. Checking the
        # schema itself would take 3 ms; ours are made by code.
        errors = list(Draft202012Validator(dict(schema)).iter_errors(value))
    except (UnknownType, TypeError, AttributeError) as error:
        message = str(error).strip().splitlines()[0]
        raise ValueError(f"the JSON schema of a request is none ({message}): correct it where it is made") from None
    if not errors:
        return "", ""
    if all(error.validator in ("enum", "const") for error in errors):
        return "taxonomy", _WRONG["taxonomy"]
    return "schema", _explained(errors)


_TYPES: Final[Mapping[Any, type | tuple[type, ...]]] = {"object": dict, "array": list, "string": str}


def _plainly_valid(value: Any, schema: Any) -> bool:
    """True for what satisfies a schema made of the few rules ours are made of; False says nothing.

    The library takes a fifth of the gateway's own time to find the same.
    """
    if type(schema) is not dict:
        return False
    rest = len(schema)
    if (name := schema.get("type")) is not None:
        rest -= 1
        if type(name) is not str or (wanted := _TYPES.get(name)) is None or not isinstance(value, wanted):
            return False
    if (choices := schema.get("enum")) is not None:
        rest -= 1
        if type(choices) is not list or type(value) is not str or value not in choices:
            return False
    if isinstance(value, list):
        if (inner := schema.get("items")) is not None:
            rest -= 1
            if not all(_plainly_valid(each, inner) for each in value):
                return False
        for rule, fits in (("minItems", len(value).__ge__), ("maxItems", len(value).__le__)):
            if (bound := schema.get(rule)) is not None:
                rest -= 1
                if type(bound) is not int or not fits(bound):
                    return False
    elif isinstance(value, dict):
        known = schema.get("properties")
        if type(known) is not dict or schema.get("additionalProperties") is not False:
            return False
        rest -= 2
        if not all(name in known and _plainly_valid(each, known[name]) for name, each in value.items()):
            return False
        if (needed := schema.get("required")) is not None:
            rest -= 1
            if type(needed) is not list or not all(name in value for name in needed):
                return False
    return rest == 0


def _explained(errors: Sequence[ValidationError]) -> str:
    rules = Counter(str(error.validator) for error in errors)
    where = "/".join(str(part)[:40] for part in errors[0].absolute_path) or "the whole"
    return f"{where} breaks the rule {', '.join(sorted(rules))}"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A second value for a name could hide what the schema looks at: readers differ in which one they take."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is given twice")
    return value


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(each, levels - 1) for each in inner)


def _objects(text: str) -> list[tuple[int, int]]:
    """Spans of the outermost braces, brackets in strings left aside; a few of them."""
    found: list[tuple[int, int]] = []
    depth, start, quoted, at = 0, 0, False, 0
    while at < len(text) and len(found) < 4:
        character = text[at]
        if quoted:
            at += character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = depth > 0
        elif character == "{":
            start = at if depth == 0 else start
            depth += 1
        elif character == "}" and depth:
            depth -= 1
            if depth == 0:
                found.append((start, at + 1))
        at += 1
    return found


def _tokens(result: LLMResult, kept: Sequence[int]) -> tuple[Token, ...]:
    """The tokens as far as their characters were kept."""
    if "".join(token.text for token in result.tokens) != result.text:
        return (Token("".join(result.text[at] for at in kept), math.nan),) if result.tokens else ()
    stays = set(kept)
    tokens: list[Token] = []
    at = 0
    for token in result.tokens:
        text = "".join(character for place, character in enumerate(token.text, at) if place in stays)
        at += len(token.text)
        if text or not token.text:
            tokens.append(Token(text, token.logprob))
    return tuple(tokens)
