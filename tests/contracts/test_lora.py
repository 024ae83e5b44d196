"""LoRA adapters on the in-process engine: the weights PEFT saved are those that answer, under a name of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from models.errors import EngineUnavailable
from models.llm import LLMConfig, materialize_default
from models.llm.registry import create
from models.ports import LLMRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTION = LLMRequest("", "Name three vegetables.", 24)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materialize_default(tmp_path_factory.mktemp("llm") / "smollm2")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(base: Path) -> tuple[str, str]:
    return await answer(base, None)


def save_adapter(base: Path, folder: Path, scale: float) -> Any:
    """An adapter whose second matrix is ``scale`` times noise (0: it changes nothing); the model it was made on."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                weights.copy_(scale * torch.randn_like(weights))
    adapted.save_pretrained(str(folder))
    return adapted


async def answer(base: Path, adapter: Path | None) -> tuple[str, str]:
    """What the engine says, and what it is called."""
    engine = create(LLMConfig(engine="transformers", model=str(base), adapter=adapter, dtype="float32"))
    try:
        return (await engine.generate(QUESTION)).text, engine.model_id
    finally:
        await engine.aclose()


async def test_an_adapter_answers_as_peft_itself_would(base: Path, plain: tuple[str, str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    adapted = save_adapter(base, tmp_path / "strange", 0.05).merge_and_unload().eval()
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    encoded: Mapping[str, Any] = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION.user}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = adapted.generate(**encoded, max_new_tokens=QUESTION.max_tokens, do_sample=False)
    expected = tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    said, said_id = await answer(base, tmp_path / "strange")
    assert said == expected
    assert said != plain[0]
    assert said_id.startswith(f"{plain[1]}+strange@")


async def test_an_adapter_of_zeros_changes_nothing(base: Path, plain: tuple[str, str], tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "nothing", 0.0)
    assert (await answer(base, tmp_path / "nothing"))[0] == plain[0]


async def test_an_adapter_that_was_cut_off_is_refused(base: Path, tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "half", 0.05)
    weights = tmp_path / "half" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(EngineUnavailable, match="half"):
        create(LLMConfig(engine="transformers", model=str(base), adapter=tmp_path / "half"))
