"""Fine-tuning: what is learned is the answer and nothing else, and what is saved makes an engine give it."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import ArtifactMismatch, MissingExtra, PromptTooLong
from models.llm import LLMConfig
from models.llm.registry import create
from models.ports import LLMRequest
from models.tagging import choice_schema
from training.finetune import lora
from training.finetune.config import FineTuneConfig
from training.finetune.lora import Example, answer_loss, fine_tune, fitted_once, pace
from training.finetune.pairs import LEAST, Pair, data_hash, tag_answer

LABELS = ('BREAD/ROLLS "FRESH"', "CAFÉ", "SALAD & DIPS", "MEAT \\ MISC")
CONFIG = FineTuneConfig(rank=16, epochs=60, batch=4, learning_rate=1e-2, dtype="float32", threads=1)


def pair(number: int, answer: str | None = None, max_tokens: int = 48) -> Pair:
    """Products whose letter says what they are; which is nothing a model could know."""
    request = LLMRequest("", f"Product {4 * 'abcdefghij'[number]}?", max_tokens, choice_schema("tags", LABELS, 1))
    return Pair(request, answer or tag_answer(LABELS[number % len(LABELS)]))


PAIRS = [pair(number) for number in range(LEAST)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random layers that read bytes: what is asked of it is exact, and not that it knows words."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llm") / "tiny"
    control = ("<|im_start|>", "<|im_end|>")
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(BPE({text: code for code, text in enumerate((*control, *bytes_))}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token=control[1], additional_special_tokens=list(control)
    )
    tokenizer.chat_template = (
        "{% for one in messages %}<|im_start|>{{ one.role }}\n{{ one.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                # As wide as logits must be to be sure of a token: the adapter cannot widen the last layer's.
                initializer_range=0.3,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    model.generation_config = GenerationConfig(eos_token_id=[tokenizer.eos_token_id])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("adapters") / "tag"
    return output, fine_tune(tiny, PAIRS, output, CONFIG, {"task": "made"})


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def test_loss_is_the_answers_cross_entropy_whatever_stands_beside_it_in_the_batch(tiny: Path) -> None:
    import torch

    model = loaded(tiny)
    examples = [Example((5, 6, 7, 8, 9, 10, 11), (12, 13)), Example((20, 21), (22, 23, 24, 25)), Example((7,), (8,))]
    by_hand = 0.0
    with torch.no_grad():
        for example in examples:
            text = [*example.prompt, *example.answer]
            certain = model(torch.tensor([text])).logits[0].double().log_softmax(dim=-1)
            by_hand -= sum(float(certain[at - 1, text[at]]) for at in range(len(example.prompt), len(text)))
        cpu = torch.device("cpu")
        assert float(answer_loss(model, examples, cpu)) == pytest.approx(by_hand, rel=1e-5)
        alone = sum(float(answer_loss(model, [example], cpu)) for example in examples)
    assert alone == pytest.approx(by_hand, rel=1e-5)


def test_prompt_and_answer_are_tokenized_as_the_engine_does_it(tiny: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny, local_files_only=True)
    examples = lora.encoded(tokenizer, loaded(tiny), PAIRS, 2048)
    for one, example in zip(PAIRS, examples):
        assert tokenizer.decode(example.prompt).endswith(f"{one.request.user}<|im_end|>\n<|im_start|>assistant\n")
        assert tokenizer.decode(example.answer) == f"{one.answer}<|im_end|>"
        assert json.loads(one.answer)["tags"][0] in LABELS


def test_training_lowers_the_loss_and_says_what_it_did(fitted: tuple[Path, dict[str, Any]]) -> None:
    output, manifest = fitted
    told = manifest["training"]
    assert told["loss"][-1] < 0.2 * told["loss"][0]
    assert told["steps"] == told["steps_planned"] == 2 * CONFIG.epochs
    assert len(told["loss"]) == CONFIG.epochs
    assert told["answer_tokens"] > 0 < told["prompt_tokens"]
    assert manifest["pairs"] == LEAST
    assert manifest["data_hash"] == data_hash(PAIRS)
    assert manifest["base"].startswith("tiny@")
    assert manifest["task"] == "made"
    saved = json.loads((output / "manifest.json").read_text())
    assert {name: saved[name] for name in manifest} == json.loads(json.dumps(manifest))


def test_only_the_adapters_weights_are_saved_and_no_path_of_this_machine(
    tiny: Path, fitted: tuple[Path, dict[str, Any]]
) -> None:
    from safetensors.torch import load_file

    output, manifest = fitted
    assert sorted(path.name for path in output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    weights = load_file(output / "adapter_model.safetensors")
    assert all("lora_A" in name or "lora_B" in name for name in weights)
    assert sum(tensor.numel() for tensor in weights.values()) == manifest["training"]["trained_weights"]
    for name in ("adapter_config.json", "manifest.json"):
        assert str(tiny.parent) not in (output / name).read_text()


def test_engine_with_the_adapter_gives_the_right_answers_and_without_it_does_not(
    tiny: Path, fitted: tuple[Path, dict[str, Any]]
) -> None:
    async def answers(adapter: Path | None) -> list[str]:
        engine = create(LLMConfig(engine="transformers", model=str(tiny), adapter=adapter, dtype="float32", threads=1))
        try:
            return [(await engine.generate(one.request)).text for one in PAIRS]
        finally:
            await engine.aclose()

    right = [one.answer for one in PAIRS]
    before, after = asyncio.run(answers(None)), asyncio.run(answers(fitted[0]))
    assert sum(said == wanted for said, wanted in zip(before, right)) <= LEAST // 2
    assert after == right


def test_a_seed_gives_the_same_adapter_again_and_it_is_fitted_once(tiny: Path, tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"epochs": 1})
    first, _ = fitted_once(tiny, PAIRS, tmp_path / "one", short, {})
    other, _ = fitted_once(tiny, PAIRS, tmp_path / "two", short, {})
    weights = (first / "adapter_model.safetensors").read_bytes()
    assert (other / "adapter_model.safetensors").read_bytes() == weights
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert fitted_once(tiny, PAIRS, tmp_path / "one", short, {})[0] == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    third, _ = fitted_once(tiny, PAIRS, tmp_path / "one", short.model_copy(update={"seed": 8}), {})
    assert third != first
    assert (third / "adapter_model.safetensors").read_bytes() != weights
    (first / "adapter_model.safetensors").write_bytes(weights[:99])
    with pytest.raises(ArtifactMismatch, match="damaged: remove the folder"):
        fitted_once(tiny, PAIRS, tmp_path / "one", short, {})


def test_learning_rate_rises_then_falls_in_straight_lines() -> None:
    assert [pace(done, 0.2) for done in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])
    assert pace(1.5, 0.2) == 0.0


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (PAIRS[:-1], f"there are {LEAST - 1} pairs .* fine-tuning needs {LEAST}"),
        ([*PAIRS, pair(9, '{"tags":["BEER"]}')], "pair 8, .*BEER.* is none that its schema allows"),
        ([*PAIRS, pair(9, '{"tags": ["CAFÉ"]}')], "pair 8, .* compact JSON"),
        ([*PAIRS, pair(9, "CAFÉ")], "is none that its schema allows"),
        ([*PAIRS, pair(9, max_tokens=4)], "pair 8 has .* tokens and its request ends an answer after 4"),
    ],
)
def test_pairs_that_cannot_teach_are_refused(tiny: Path, tmp_path: Path, pairs: list[Pair], message: str) -> None:
    with pytest.raises(ArtifactMismatch, match=message):
        fine_tune(tiny, pairs, tmp_path / "adapter", CONFIG, {})
    assert not list(tmp_path.iterdir())


def test_prompt_the_engine_would_not_take_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(PromptTooLong, match="pass the context of 40"):
        fine_tune(tiny, PAIRS, tmp_path / "adapter", CONFIG.model_copy(update={"max_model_len": 40}), {})


def test_missing_model_taken_folder_and_too_little_time_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match="nowhere holds no model"):
        fine_tune(tmp_path / "nowhere", PAIRS, tmp_path / "adapter", CONFIG, {})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{}")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ArtifactMismatch, match=r"cannot load .*damaged"):
        fine_tune(tmp_path / "damaged", PAIRS, tmp_path / "adapter", CONFIG, {})
    with pytest.raises(ArtifactMismatch, match="is there already"):
        fine_tune(tiny, PAIRS, tmp_path, CONFIG, {})
    with pytest.raises(ArtifactMismatch, match="before the first step: raise max_seconds"):
        fine_tune(tiny, PAIRS, tmp_path / "adapter", CONFIG.model_copy(update={"max_seconds": 1e-9}), {})
    with pytest.raises(ArtifactMismatch, match="the loss is no number after 1 steps: lower learning_rate"):
        fine_tune(tiny, PAIRS, tmp_path / "adapter", CONFIG.model_copy(update={"learning_rate": math.inf}), {})
    assert not (tmp_path / "adapter").exists()


def test_missing_peft_names_the_extra(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # to the import machinery: not installed
    with pytest.raises(MissingExtra, match=r"fine-tuning needs 'peft': pip install 'tandem-rec\[lora\]'"):
        fine_tune(tiny, PAIRS, tmp_path / "adapter", CONFIG, {})
