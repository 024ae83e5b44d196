"""LoRA adapters: named in the release, refused where they cannot be loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ArtifactMismatch, MissingExtra
from models.llm import LLMConfig
from models.llm.adapter import model_id, vllm_rank
from models.llm.registry import create


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def adapter(folder: Path, rank: object = 8, weights: bytes = b"lora") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_name_of_a_model_tells_its_adapter_and_what_is_in_it(base: Path, tmp_path: Path) -> None:
    plain = model_id(base, None)
    first, second = adapter(tmp_path / "a"), adapter(tmp_path / "b", weights=b"other")
    assert plain.startswith("base@")
    assert model_id(base, first).startswith(f"{plain}+a@")
    assert model_id(base, first).partition("+a@")[2] != model_id(base, second).partition("+b@")[2]


@pytest.mark.parametrize(("rank", "started_with"), [(1, 8), (8, 8), (9, 16), (512, 512)])
def test_vllm_is_started_with_the_least_rank_that_holds_it(tmp_path: Path, rank: int, started_with: int) -> None:
    assert vllm_rank(adapter(tmp_path / "a", rank)) == started_with


@pytest.mark.parametrize("rank", [513, "many", None])
def test_rank_that_cannot_be_is_refused(tmp_path: Path, rank: object) -> None:
    with pytest.raises(ArtifactMismatch, match="rank"):
        vllm_rank(adapter(tmp_path / "a", rank))


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_folder_without_an_adapter_is_refused_before_anything_is_loaded(engine: str, base: Path) -> None:
    config = LLMConfig.model_validate({"engine": engine, "model": str(base), "adapter": base})
    with pytest.raises(ArtifactMismatch, match="holds no LoRA adapter"):
        create(config)


def test_transformers_without_peft_says_how_to_get_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # to the import machinery: not installed
    config = LLMConfig(engine="transformers", model=str(base), adapter=adapter(tmp_path / "a"))
    with pytest.raises(MissingExtra, match=r"needs 'peft': pip install 'tandem-rec\[lora\]'"):
        create(config)


def test_endpoint_loads_no_adapter() -> None:
    with pytest.raises(ValidationError, match="name it in model"):
        LLMConfig(engine="openai", model="m", base_url="http://127.0.0.1:9/v1", adapter=Path("a"))
