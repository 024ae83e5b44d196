"""Spans of JSON string values and their log-probabilities."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llm.spans import StringValue, span_logprob, string_values
from models.ports import LLMResult, Token

TEXTS = st.text(max_size=8)


def result(*tokens: tuple[str, float]) -> LLMResult:
    return LLMResult("".join(text for text, _ in tokens), "stop", 1, len(tokens), tuple(Token(*t) for t in tokens))


@given(
    tags=st.lists(TEXTS, max_size=4),
    other=st.lists(TEXTS, max_size=2),
    loose=st.recursive(
        TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
    ),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3),
)
def test_items_of_the_named_array_are_found_where_they_stand(
    tags: list[str], other: list[str], loose: object, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps({"x": loose, "tags": tags, "y": {"tags": other}}, ensure_ascii=ascii_only, indent=indent)
    found = string_values(text, "tags")
    assert [item.value for item in found] == tags
    assert all(json.loads(f'"{text[item.start : item.end]}"') == item.value for item in found)


@given(tags=st.lists(TEXTS, min_size=1, max_size=4), data=st.data())
def test_a_text_cut_off_gives_the_values_complete_before_the_cut(tags: list[str], data: st.DataObject) -> None:
    text = json.dumps({"tags": tags})
    whole = string_values(text, "tags")
    cut = data.draw(st.integers(0, len(text)))
    assert string_values(text[:cut], "tags") == [item for item in whole if item.end < cut]


def test_without_a_field_every_top_level_array_counts_and_nested_ones_do_not() -> None:
    text = '{"a":["1"],"b":"2","c":["3",["4"],{"d":"5"}]}'
    assert [item.value for item in string_values(text)] == ["1", "3"]


@pytest.mark.parametrize("text", ["", "null", '["a"]', '"a"', "{", '{"tags":"a"}', '{"tags":["\\q"]}', ']}{"'])
def test_a_text_without_the_array_has_no_values(text: str) -> None:
    assert string_values(text, "tags") == []


def test_a_value_is_given_the_logprob_of_the_tokens_it_overlaps() -> None:
    answer = result(('["', -1.0), ("che", -2.0), ("ese", -4.0), ('","', -8.0), ("ham", -16.0), ('"]', -32.0))
    assert string_values('{"t":' + answer.text, "t") == [StringValue("cheese", 7, 13), StringValue("ham", 16, 19)]
    assert span_logprob(answer, 2, 8) == -6.0
    assert span_logprob(answer, 11, 14) == -16.0
    assert span_logprob(answer, 1, 3) == -3.0
    assert span_logprob(answer, 0, len(answer.text)) == -63.0


def test_parts_of_a_character_count_with_the_character_they_begin() -> None:
    answer = result(("a", -1.0), ("", -2.0), ("é", -4.0), ("b", -8.0))
    assert [span_logprob(answer, at, at + 1) for at in range(3)] == [-1.0, -6.0, -8.0]


def test_an_unknown_logprob_makes_its_span_unknown() -> None:
    answer = result(("ab", math.nan), ("c", -1.0))
    assert math.isnan(span_logprob(answer, 1, 3))
    assert span_logprob(answer, 2, 3) == -1.0
    assert math.isnan(span_logprob(LLMResult("abc", "stop", 1, 1), 0, 1))


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, 4)])
def test_a_span_outside_the_text_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="outside a text of 3"):
        span_logprob(result(("abc", -1.0)), start, end)


@given(pieces=st.lists(st.tuples(TEXTS, st.floats(-9, 0)), min_size=1, max_size=6))
def test_spans_of_all_characters_cover_every_token_with_text(pieces: list[tuple[str, float]]) -> None:
    answer = result(*pieces)
    whole = math.fsum(logprob for _, logprob in pieces[: max((i + 1 for i, p in enumerate(pieces) if p[0]), default=0)])
    assert span_logprob(answer, 0, len(answer.text)) == pytest.approx(whole)
