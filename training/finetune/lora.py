"""LoRA (Hu et al., ICLR 2022): small matrices beside the frozen weights of an in-house LLM, fitted to right answers.

The loss is the cross-entropy of the answer's tokens and of the token that ends the turn; the prompt is read and not
learned. Prompt and answer are tokenized as the engines do it, and an answer that their grammar would not let them give
is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models import artifacts
from models.errors import ArtifactMismatch, MissingExtra
from models.llm.grammar import GrammarCompiler, schema_text
from models.llm.tokenization import prompt_tokens
from models.llm.weights import weights_id
from training.finetune.config import FineTuneConfig
from training.finetune.pairs import Pair, data_hash, enough

if TYPE_CHECKING:
    import torch

KIND: Final = "lora_adapter"
_IGNORED: Final = -100
"""Label of a position that has no loss."""
_SORTED: Final = 8
"""Batches whose pairs are sorted by length together, so that little is padded."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt, and of its answer with the token that ends the turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def fine_tune(
    folder: Path,
    pairs: Sequence[Pair],
    output: Path,
    config: FineTuneConfig,
    facts: Mapping[str, Any],
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Fit an adapter for the model in ``folder`` and save it as PEFT does, with a manifest, which is returned.

    ``folder``: safetensors, tokenizer and chat template. ``facts`` go into the manifest as they are. ``output`` appears
    whole or not at all. On a GPU where there is one, else on the CPU: about ten seconds a step of a 135M model there.
    Raises ArtifactMismatch (no such model, too few pairs, an answer its schema does not allow, an ``output`` that is
    there, no time for a step, a loss that is no number), PromptTooLong, or MissingExtra where ``peft`` is not
    installed.
    """
    enough(pairs)
    if output.exists():
        raise ArtifactMismatch(f"{output} is there already: give the new adapter another folder, or remove that one")
    if not (folder / "config.json").is_file():
        raise ArtifactMismatch(f"{folder} holds no model (no config.json): give a folder of safetensors or 'default'")
    try:
        from peft import LoraConfig, get_peft_model
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        wanted = "'tandem-rec[lora]'" if library in ("peft", "accelerate") else "'tandem-rec[serve]'"
        raise MissingExtra(f"fine-tuning needs {library!r}: pip install {wanted}") from error
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    base = weights_id(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=getattr(torch, config.dtype))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactMismatch(f"transformers cannot load {folder}: {error}") from error
    examples = encoded(tokenizer, plain, pairs, config.max_model_len)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = get_peft_model(
            plain,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        ).to(device)
    # PEFT writes the folder's path there, which is nobody else's.
    model.peft_config["default"].base_model_name_or_path = base
    told = _fit(model, examples, config, device, progress)

    def write(to: Path) -> None:
        # Without save_embedding_layers PEFT would look for the base model's vocabulary at its hub.
        model.save_pretrained(str(to), save_embedding_layers=False)
        (to / "README.md").unlink(missing_ok=True)  # a form to fill in for a model hub
        to.chmod(0o755)
        for path in to.iterdir():
            path.chmod(0o644)

    manifest = {
        **facts,
        "base": base,
        "pairs": len(pairs),
        "data_hash": data_hash(pairs),
        "config": config.model_dump(),
        "training": {**told, "device": device.type},
        "versions": artifacts.package_versions("peft", "torch", "transformers"),
    }
    artifacts.save(output, KIND, manifest, write)
    return manifest


def fitted_once(
    folder: Path,
    pairs: Sequence[Pair],
    within: Path,
    config: FineTuneConfig,
    facts: Mapping[str, Any],
    progress: Progress = lambda *_: None,
) -> tuple[Path, dict[str, Any]]:
    """The adapter's folder under ``within``, named by model, pairs and ``config``, and its manifest: of an earlier
    call, or fitted now. Raises what `fine_tune` does, and ArtifactMismatch where the earlier one is damaged."""
    key = artifacts.content_hash([weights_id(folder), data_hash(pairs), config.model_dump()])
    output = within / f"adapter-{key}"
    if output.exists():
        try:
            return output, artifacts.load(output, KIND)
        except ArtifactMismatch as error:
            raise ArtifactMismatch(f"{output} is damaged: remove the folder, and it is fitted anew") from error
    return output, fine_tune(folder, pairs, output, config, facts, progress)


def encoded(tokenizer: Any, model: Any, pairs: Sequence[Pair], max_model_len: int) -> list[Example]:
    """The pairs as the engines tokenize them. Raises ArtifactMismatch and PromptTooLong, see `fine_tune`."""
    ends = model.generation_config.eos_token_id
    end = ends if isinstance(ends, int) else (ends or [tokenizer.eos_token_id])[0]
    compiler = GrammarCompiler(tokenizer, model.config.vocab_size)
    examples = []
    for number, pair in enumerate(pairs):
        prompt = prompt_tokens(tokenizer, pair.request, max_model_len)
        answer = [*tokenizer(pair.answer, add_special_tokens=False)["input_ids"], end]
        if len(answer) > pair.request.max_tokens:
            raise ArtifactMismatch(
                f"the right answer of pair {number} has {len(answer)} tokens and its request ends an answer after "
                f"{pair.request.max_tokens}: raise the prompt's max_tokens"
            )
        schema = pair.request.json_schema
        if schema is not None and not compiler.constrain(schema_text(schema)).accepts(answer):
            raise ArtifactMismatch(
                f"the right answer of pair {number}, {pair.answer!r}, is none that its schema allows: no engine could "
                "give it. Write it as compact JSON of the schema's values"
            )
        examples.append(Example(tuple(prompt), tuple(answer)))
    return examples


def answer_loss(model: Any, examples: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Summed cross-entropy of the examples' answer tokens (natural log), a scalar with a gradient."""
    import torch

    longest = max(len(example.prompt) + len(example.answer) for example in examples)
    kept = max(len(example.answer) for example in examples) + 1
    ids = torch.zeros((len(examples), longest), dtype=torch.long)
    seen = torch.zeros_like(ids)
    labels = torch.full((len(examples), kept), _IGNORED)
    for row, example in enumerate(examples):
        # Padded on the left, so that all answers end together and logits are computed for them alone.
        text = torch.tensor((*example.prompt, *example.answer))
        ids[row, longest - len(text) :] = text
        seen[row, longest - len(text) :] = 1
        labels[row, kept - len(example.answer) :] = torch.tensor(example.answer)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=seen.to(device),
        position_ids=(seen.cumsum(dim=1) - 1).clamp(min=0).to(device),
        logits_to_keep=kept,
        use_cache=False,
    ).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten().to(device), ignore_index=_IGNORED, reduction="sum"
    )


def pace(done: float, warm_up: float) -> float:
    """The learning rate's share of its highest after so much of the training: up in a straight line, and down."""
    return done / warm_up if done < warm_up else max(0.0, (1.0 - done) / (1.0 - warm_up))


def _fit(
    model: Any, examples: Sequence[Example], config: FineTuneConfig, device: torch.device, progress: Progress
) -> dict[str, Any]:
    """Train the adapter in place; what to tell of it. ``loss``: nats a token, the mean of each epoch's steps."""
    import torch

    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng(config.seed)
    steps = config.epochs * math.ceil(len(examples) / config.batch)
    limit = config.max_seconds or math.inf
    begun = time.perf_counter()
    losses: list[list[float]] = []
    read = learned = step = 0
    model.train()
    for epoch in range(config.epochs):
        losses.append([])
        for batch in _batches(examples, config.batch, rng):
            done = max((step + 1) / (steps + 1), (time.perf_counter() - begun) / limit)
            if done >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * pace(done, config.warm_up)
            many = sum(len(example.answer) for example in batch)
            loss = answer_loss(model, batch, device) / many
            losses[-1].append(float(loss.detach()))
            if not math.isfinite(losses[-1][-1]):
                raise ArtifactMismatch(f"the loss is no number after {step} steps: lower learning_rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, config.clip)
            optimizer.step()
            step, learned = step + 1, learned + many
            read += sum(len(example.prompt) for example in batch)
            progress(f"fine-tuning: epoch {epoch + 1}", done)
    if not step:
        raise ArtifactMismatch(f"{config.max_seconds} s were over before the first step: raise max_seconds")
    model.eval()
    return {
        "steps": step,
        "steps_planned": steps,
        "loss": [float(np.mean(epoch)) for epoch in losses if epoch],
        "prompt_tokens": read,
        "answer_tokens": learned,
        "trained_weights": sum(weight.numel() for weight in weights),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _batches(examples: Sequence[Example], size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    """All examples once, in an order of their own, those of a batch about equally long."""
    order = rng.permutation(len(examples))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * _SORTED):
        near = sorted(order[start : start + size * _SORTED].tolist(), key=lambda at: len(examples[at].prompt))
        batches += [near[at : at + size] for at in range(0, len(near), size)]
    for number in rng.permutation(len(batches)).tolist():
        yield [examples[at] for at in batches[number]]
