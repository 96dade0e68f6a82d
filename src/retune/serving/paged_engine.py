"""transformers' continuous batching: answers join and leave a batch at any token.

Three things are put otherwise than its own server has them. The size of the cache is what the
answers need and not 60 % of the memory, whose attention mask alone made a token four times as
slow. Tokens are chosen here, row by row (its own settings of temperature and seed are those of the
whole manager). And the cache of a prompt is shared only within this model's life.
"""

from __future__ import annotations

import threading
from math import ceil
from typing import Any, ClassVar

import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessorList,
    PretrainedConfig,
)
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)

from retune.inference.jobs import Counts, Job
from retune.inference.loaded_models import LoadedModel
from retune.machine import find_memory
from retune.serving.choosing import choose_tokens, only

_PAGE_TOKENS, _SMALL_PAGE_TOKENS = 256, 16
"""On a GPU and on a CPU. Prompts that begin alike share whole pages: where schemas stand before
questions, small ones leave most of a prompt unread. Kernels of a GPU want the large ones."""
_KEY = "retune_key"
_STOPPED = "the engine has stopped"
_MEMORY_SHARE = 1 / 3
"""The rest is for the weights, and for a second version while the alias moves."""


class PagedEngine:
    """Writes answers in pages of a shared cache; see `jobs.Engine`.

    Args:
        loaded: The model.
        batch: Most answers at a time.
        context: Most tokens of a prompt with its answer.

    Raises:
        ValueError: Its attention is of a kind that cannot page. Other models raise whatever their
            code does, here or at the first answer.
    """

    def __init__(self, loaded: LoadedModel, batch: int, context: int) -> None:
        self._loaded = loaded
        self._jobs: dict[str, Job] = {}
        self._batch = batch
        on_gpu = loaded.model.device.type == "cuda"
        page_tokens = _PAGE_TOKENS if on_gpu else _SMALL_PAGE_TOKENS
        pages = count_pages(
            loaded.model.config.get_text_config(),
            batch=batch,
            context=context,
            page_tokens=page_tokens,
            element_bytes=loaded.model.dtype.itemsize,
            memory_bytes=find_memory("cuda" if on_gpu else "cpu"),
        )
        self._manager: Any = loaded.model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False,
                eos_token_id=loaded.end_ids,
                pad_token_id=int(loaded.tokenizer.pad_token_id),
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=page_tokens,
                num_blocks=pages,
                max_batch_tokens=max(context, batch),
                max_requests_per_batch=batch,
                # The chooser looks at values of this step: no step may run ahead, or be replayed.
                use_async_batching=False,
                use_cuda_graph=False,
            ),
        )
        chooser = _Chooser(self._jobs, int(loaded.tokenizer.pad_token_id))
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([chooser]))
        processors.tensors_required = 1
        self._manager.logit_processor = processors
        self._manager.start()
        self._reader = threading.Thread(target=self._read, name="paged-engine", daemon=True)
        self._reader.start()

    def submit(self, job: Job) -> None:
        """Let an answer join the batch, unless it was cancelled before."""
        if job.ended:
            return
        self._jobs[job.key] = job
        added = self._manager.add_request(
            list(job.prompt_ids),
            request_id=job.key,
            max_new_tokens=job.max_tokens,
            eos_token_id=self._loaded.end_ids,
            **{_KEY: job.key},
        )
        # The reader may have failed it already, and another thread cancelled it.
        if added is None and self._jobs.pop(job.key, None) is not None:
            job.ended = True
            job.fail(_STOPPED)
        elif job.ended:
            self._manager.cancel_request(job.key)

    def cancel(self, job: Job) -> None:
        """Take an answer out of the batch."""
        job.ended = True
        if self._jobs.pop(job.key, None) is not None:
            self._manager.cancel_request(job.key)

    def counts(self) -> Counts:
        """Say how busy it is."""
        held = len(self._jobs)
        running = min(held, self._batch)
        return Counts(running, held - running)

    @property
    def alive(self) -> bool:
        """Whether the manager's thread and the one that reads from it run."""
        return bool(self._manager.is_running()) and self._reader.is_alive()

    def close(self) -> None:
        """End its threads, and let the model attend as before."""
        self._manager.stop(block=True)
        self._reader.join()

    def _read(self) -> None:
        """Forget answers that have ended, and tell those that failed."""
        for output in self._manager:
            job = self._jobs.pop(output.request_id, None)
            if job is not None and output.error and not job.ended:
                job.ended = True
                job.fail(str(output.error)[:200])
        for job in list(self._jobs.values()):
            if not job.ended:
                job.ended = True
                job.fail(_STOPPED)


def count_pages(
    config: PretrainedConfig,
    *,
    batch: int,
    context: int,
    page_tokens: int,
    element_bytes: int,
    memory_bytes: int,
) -> int:
    """Return how many pages a cache has: what the answers need, within a third of the memory.

    Where that is less than all answers of full length need, the engine lets some wait.

    Args:
        config: Of the text model.
        batch: Most answers at a time.
        context: Most tokens of a prompt with its answer.
        page_tokens: Tokens of a page.
        element_bytes: Size of one value.
        memory_bytes: Of the device, all of it.

    Returns:
        Pages, enough for one answer of full length at least.
    """
    # One page more per answer than its tokens fill: the next one is taken ahead.
    each = ceil(context / page_tokens) + 1
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    page_bytes = 2 * config.num_hidden_layers * heads * width * page_tokens * element_bytes
    affordable = int(memory_bytes * _MEMORY_SHARE / page_bytes)
    return max(each, min(batch * each, affordable))


class _Chooser(ContinuousBatchingLogitsProcessor):
    supported_kwargs: ClassVar[dict[str, type]] = {_KEY: str}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, jobs: dict[str, Job], idle: int) -> None:
        self._all, self._idle = jobs, idle
        self._rows: list[Job | None] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        self._rows = [
            self._all.get(str(request.state.logit_processor_kwargs.get(_KEY)))
            for request in requests_with_new_token
        ]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        return only(choose_tokens(scores, self._rows, self._idle), scores)
