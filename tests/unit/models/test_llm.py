"""Configuration, wiring, weights and tokenization of the LLM engines."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import ArtifactMismatch, EngineUnavailable
from models.llm import LLMConfig, materialize_default
from models.llm.registry import create
from models.llm.tokenization import token_texts
from models.llm.weights import weights_id


@pytest.mark.parametrize(
    "values",
    [
        {"engine": "vllm", "modle": "default"},
        {"engine": "vllm", "base_url": "http://x/v1"},
        {"engine": "openai", "model": "m"},
        {"engine": "openai", "base_url": "http://x/v1"},
        {"timeout_s": 0},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LLMConfig.model_validate(values)


def test_importing_the_package_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'vllm', 'xgrammar', 'faiss', 'httpx2', 'ray'}"
    code = f"import sys, models.llm, models.embedder, models.index; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("engine", "library", "extra"), [("vllm", "vllm", "cpu"), ("transformers", "torch", "serve")])
def test_a_missing_library_names_the_command_that_installs_it(
    engine: str, library: str, extra: str, tmp_path: Path
) -> None:
    """In an interpreter of its own: one that has loaded parts of the library goes on finding them."""
    (tmp_path / "config.json").write_text("{}")
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from models.errors import MissingExtra\n"
        "from models.llm import LLMConfig\n"
        "from models.llm.registry import create\n"
        f"try: create(LLMConfig.model_validate({{'engine': {engine!r}, 'model': {str(tmp_path)!r}}}))\n"
        "except MissingExtra as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'tandem-rec[{extra}]'" in result.stdout


def test_a_folder_without_a_model_is_an_artifact_mismatch(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match=r"no config\.json"):
        create(LLMConfig(model=str(tmp_path)))
    with pytest.raises(ArtifactMismatch, match="safetensors"):
        weights_id(tmp_path)


def test_an_unset_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_TEST_KEY", raising=False)
    with pytest.raises(EngineUnavailable, match="TANDEM_TEST_KEY is not set"):
        create(LLMConfig(engine="openai", model="m", base_url="http://x/v1", api_key_env="TANDEM_TEST_KEY"))


def test_weights_already_there_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    assert materialize_default(tmp_path) == tmp_path
    assert (tmp_path / "config.json").read_text() == "mine"


def test_the_name_of_weights_changes_with_any_byte_of_them(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"abc")
    first = weights_id(tmp_path)
    file.write_bytes(b"abd")
    assert first.startswith(f"{tmp_path.name}@")
    assert weights_id(tmp_path) != first


@given(text=st.text(max_size=12))
def test_pieces_of_characters_join_to_the_text(text: str) -> None:
    def decode(ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    pieces = token_texts(decode, list(text.encode()))
    assert "".join(pieces) == text
    assert len(pieces) == len(text.encode())
