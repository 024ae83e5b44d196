"""transformers: a model in this process, one request at a time: where vLLM is not, and to check vLLM against."""

from __future__ import annotations

import asyncio
import importlib
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import EngineTimeout, EngineUnavailable
from models.llm.adapter import model_id
from models.llm.grammar import Constraint, GrammarCompiler, schema_text
from models.llm.tokenization import prompt_tokens, token_texts
from models.ports import LLMRequest, LLMResult, Token

if TYPE_CHECKING:
    import torch


class TransformersEngine:
    """A causal LM on a GPU where there is one, else on CPUs; requests wait for each other in order of arrival."""

    def __init__(
        self,
        folder: Path,
        *,
        max_model_len: int,
        dtype: str,
        threads: int | None,
        timeout_s: float,
        adapter: Path | None = None,
    ) -> None:
        """Load the weights; seconds. ``threads`` is torch's, so the whole process's.

        Raises EngineUnavailable, or ModuleNotFoundError where an adapter is given and ``peft`` is not installed.
        """
        if adapter is not None:
            importlib.import_module("peft")  # transformers would say so in a text of its own, after seconds
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model_id = model_id(folder, adapter)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=getattr(torch, dtype)
            )
            if adapter is not None:
                # A folder is read where it is; transformers 5.19 passes on local_files_only to who does not know it.
                self._model.load_adapter(str(adapter))
            self._model.to(self._device)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            loaded = folder if adapter is None else f"{folder} with the adapter {adapter}"
            raise EngineUnavailable(f"transformers cannot load {loaded}: {error}") from error
        self._model.eval()
        self._compiler = GrammarCompiler(self._tokenizer, self._model.config.vocab_size)
        self._max_model_len = max_model_len
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transformers")
        self._closed = threading.Event()

    @property
    def alive(self) -> bool:
        """See LLMEngine."""
        return not self._closed.is_set()

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine. A cancelled or timed-out call stops at its next token, or never starts."""
        self._refuse_if_closed()
        prompt = prompt_tokens(self._tokenizer, request, self._max_model_len)
        constraint = None if request.json_schema is None else schema_text(request.json_schema)
        abandoned = threading.Event()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(
                    self._pool, self._complete, request, prompt, constraint, abandoned, started
                )
        except TimeoutError:
            raise EngineTimeout(
                f"transformers ({self.model_id}) did not answer within {self._timeout_s} s: "
                "lower the load or raise timeout_s"
            ) from None
        finally:
            abandoned.set()

    async def aclose(self) -> None:
        """Fail what is running or waiting with EngineUnavailable and free the model."""
        self._closed.set()
        await asyncio.to_thread(self._pool.shutdown)
        self._model = None

    def _complete(
        self, request: LLMRequest, prompt: list[int], schema: str | None, abandoned: threading.Event, started: float
    ) -> LLMResult:
        import torch

        self._refuse_if_closed()
        watch = _Watch(len(prompt), None if schema is None else self._compiler.constrain(schema))
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature > 0:
            sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode(), torch.random.fork_rng(enabled=request.temperature > 0):
            if request.temperature > 0:
                torch.manual_seed(request.seed)
            inputs = torch.tensor([prompt], device=self._device)
            output = self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=request.max_tokens,
                logits_processor=[watch],
                stopping_criteria=[_StopWhen(abandoned, self._closed)],
                **sampling,
            )
        self._refuse_if_closed()
        return self._result(prompt, output[0, len(prompt) :].tolist(), watch, started)

    def _result(self, prompt: list[int], ids: list[int], watch: _Watch, started: float) -> LLMResult:
        ended = ids[-1] in self._end_ids()
        logprobs = watch.logprobs(ids)
        texts = token_texts(self._tokenizer.decode, ids[:-1] if ended else ids)
        return LLMResult(
            text="".join(texts),
            finish="stop" if ended else "length",
            prompt_tokens=len(prompt),
            completion_tokens=len(ids),
            tokens=tuple(Token(text, logprob) for text, logprob in zip(texts, logprobs)),
            first_token_s=watch.first_at - started,
        )

    def _end_ids(self) -> Sequence[int]:
        ends = self._model.generation_config.eos_token_id
        return [ends] if isinstance(ends, int) else ends

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise EngineUnavailable(f"transformers ({self.model_id}) is closed: create the engine again")


class _Watch:
    """Logits processor, first in line: notes the model's own log-probabilities of each token, then constrains."""

    def __init__(self, prompt_length: int, constraint: Constraint | None) -> None:
        self._prompt_length = prompt_length
        self._constraint = constraint
        self._chosen: list[float] = []
        self._latest: torch.Tensor | None = None
        self.first_at = math.nan
        """When the first token was known, by `time.perf_counter`."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        generated = input_ids[0, self._prompt_length :].tolist()
        self._note(generated)
        if self._latest is None:
            self.first_at = time.perf_counter()
        self._latest = scores[0].float().log_softmax(dim=-1)
        if self._constraint is not None:
            scores = scores.clone()
            self._constraint.mask(generated, scores[0])
        return scores

    def logprobs(self, generated: list[int]) -> list[float]:
        """One per generated token, the last included."""
        self._note(generated)
        return self._chosen

    def _note(self, generated: list[int]) -> None:
        if self._latest is not None and len(self._chosen) < len(generated):
            self._chosen.append(min(0.0, float(self._latest[generated[-1]])))


class _StopWhen:
    """Stopping criterion: any of the events is set."""

    def __init__(self, *events: threading.Event) -> None:
        self._events = events

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        stop = any(event.is_set() for event in self._events)
        return input_ids.new_full((input_ids.shape[0],), stop).bool()
