"""vLLM: a model in a child process that batches requests continuously, on a GPU or on CPUs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from models.errors import EngineTimeout, EngineUnavailable
from models.llm.adapter import model_id, vllm_rank
from models.llm.grammar import schema_text
from models.llm.tokenization import prompt_tokens, token_texts
from models.ports import LLMRequest, LLMResult, Token

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # a command's own output may be JSON
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # JSONConstraint implements the logits processor interface of V1
}
_ENDING_S = 10.0


class VLLMEngine:
    """An AsyncLLM over a local folder of weights; batching and prefix caching are vLLM's."""

    def __init__(
        self,
        folder: Path,
        *,
        max_model_len: int,
        kv_cache_gib: float,
        dtype: str,
        threads: int | None,
        max_concurrency: int,
        timeout_s: float,
        adapter: Path | None = None,
    ) -> None:
        """Start the child process and load the weights; about a minute. Raises EngineUnavailable."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        arguments = AsyncEngineArgs(
            model=str(folder),
            max_model_len=max_model_len,
            max_num_seqs=max_concurrency,
            dtype=dtype,
            kv_cache_memory_bytes=int(kv_cache_gib * 2**30),
            enforce_eager=on_cpu,
            enable_prefix_caching=True,
            async_scheduling=False,  # a logits processor must see the tokens that were really generated
            distributed_executor_backend="mp" if on_cpu else "uni",  # else chosen by whether Ray is around
            logprobs_mode="raw_logprobs",
            logits_processors=["models.llm.vllm_constraint:JSONConstraint"],
            disable_log_stats=False,  # without them nobody knows when the first token came
            load_format="safetensors",
            use_tqdm_on_load=False,
            enable_lora=adapter is not None,
            max_lora_rank=16 if adapter is None else vllm_rank(adapter),
        )
        self.model_id = model_id(folder, adapter)
        self._lora = None if adapter is None else _lora(adapter)
        self._max_model_len = max_model_len
        self._timeout_s = timeout_s
        self._numbers = itertools.count()
        self._running: set[str] = set()
        self._closed = False
        before = set(multiprocessing.active_children())
        try:
            with _cpu_threads(threads) if on_cpu else contextlib.nullcontext():
                self._engine: Any = AsyncLLM.from_engine_args(arguments)
        except Exception as error:
            _end(set(multiprocessing.active_children()) - before)
            raise EngineUnavailable(f"vLLM does not start on {folder}: {error}") from error
        self._processes = set(multiprocessing.active_children()) - before
        self._tokenizer = self._engine.get_tokenizer()

    @property
    def in_flight(self) -> int:
        """Requests the engine is working on."""
        return 0 if self._engine is None else int(self._engine.get_num_unfinished_requests())

    @property
    def alive(self) -> bool:
        """See LLMEngine; False as well once vLLM's child process has died."""
        return not self._closed and not self._engine.errored

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine. A cancelled or timed-out call aborts its request inside vLLM."""
        from vllm.exceptions import VLLMClientError, VLLMServerError

        self._refuse_if_closed()
        prompt = prompt_tokens(self._tokenizer, request, self._max_model_len)
        parameters = _sampling(request)
        number = f"tandem-{next(self._numbers)}"
        self._running.add(number)
        try:
            async with asyncio.timeout(self._timeout_s):
                output = await self._last_output(prompt, parameters, number)
        except TimeoutError:
            raise EngineTimeout(
                f"vLLM ({self.model_id}) did not answer within {self._timeout_s} s: lower the load or raise timeout_s"
            ) from None
        except VLLMClientError as error:
            raise ValueError(f"vLLM refuses the request: {error}") from error
        except VLLMServerError as error:
            raise EngineUnavailable(f"vLLM ({self.model_id}) failed: {error}. Create the engine again") from error
        finally:
            self._running.discard(number)
        return self._result(len(prompt), output)

    async def aclose(self) -> None:
        """Fail what is running with EngineUnavailable and end vLLM's processes, by force after 10 s."""
        if self._closed:
            return
        self._closed = True
        await self._engine.abort(list(self._running))
        # It would take the end of its process, which shutdown brings about, for a failure, and log a traceback.
        if (handler := self._engine.output_handler) is not None:
            handler.cancel()
        workers = _below(self._processes)
        await asyncio.to_thread(self._engine.shutdown)
        await asyncio.to_thread(_end, self._processes)
        await asyncio.to_thread(_end_workers, workers)
        self._engine = None  # its finalizer needs modules that are gone when the interpreter ends

    async def _last_output(self, prompt: list[int], parameters: Any, number: str) -> Any:
        output = None
        outputs = self._engine.generate({"prompt_token_ids": prompt}, parameters, number, lora_request=self._lora)
        async with contextlib.aclosing(outputs):
            async for output in outputs:  # noqa: B007
                pass
        if output is None or output.outputs[0].finish_reason not in ("stop", "length"):
            self._refuse_if_closed()
            raise EngineUnavailable(f"vLLM ({self.model_id}) gave up a request: try again")
        return output

    def _result(self, prompt_length: int, reply: Any) -> LLMResult:
        output = reply.outputs[0]
        ids = list(output.token_ids)
        logprobs = [min(0.0, entry[token].logprob) for token, entry in zip(ids, output.logprobs, strict=True)]
        spoken = ids if output.finish_reason == "length" else ids[:-1]  # the last one ends the turn and has no text
        texts = token_texts(self._tokenizer.decode, spoken)
        return LLMResult(
            text="".join(texts),
            finish=output.finish_reason,
            prompt_tokens=prompt_length,
            completion_tokens=len(ids),
            tokens=tuple(Token(text, logprob) for text, logprob in zip(texts, logprobs)),
            first_token_s=reply.metrics.first_token_latency,
        )

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise EngineUnavailable(f"vLLM ({self.model_id}) is closed: create the engine again")


def _lora(adapter: Path) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, 1, str(adapter))


def _sampling(request: LLMRequest) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    from models.llm.vllm_constraint import SCHEMA

    schema = request.json_schema
    return SamplingParams(
        temperature=request.temperature,
        seed=request.seed if request.temperature > 0 else None,
        max_tokens=request.max_tokens,
        logprobs=0,  # of the sampled token alone
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args=None if schema is None else {SCHEMA: schema_text(schema)},
    )


@contextlib.contextmanager
def _cpu_threads(threads: int | None) -> Iterator[None]:
    """vLLM's worker reads its threads from the environment at its start; by default it would pin itself to cores that
    other replicas on the machine pin themselves to as well. One CPU is left to this process and vLLM's scheduler:
    computing threads wait for each other spinning, and one that has to share its CPU holds up the rest."""
    wanted = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads or max(1, len(os.sched_getaffinity(0)) - 1)),
    }
    saved = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _below(processes: set[BaseProcess]) -> list[psutil.Process]:
    """What vLLM's children have started: a worker for each device, which nobody but them waits for."""
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(process.pid).children(recursive=True)
    return found


def _end_workers(workers: list[psutil.Process]) -> None:
    """Once their parent has gone they end by themselves, on a busy machine a moment later."""
    deadline = time.monotonic() + _ENDING_S
    while alive := [worker for worker in workers if _lives(worker)]:
        if time.monotonic() > deadline:
            for worker in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            return
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    """One that has ended may wait a while for the machine's first process to take notice of it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _end(processes: set[BaseProcess]) -> None:
    for process in processes:
        process.join(_ENDING_S)
        if process.is_alive():
            process.kill()
            process.join()
