"""Puts the `cpu` backend together for one run: KV memory, threads, lanes; loads no weights."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from apexbench.cpu_kernels import KvCache, KvGeometry, Pool
from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.engine.clock import Clock
from apexbench.engine.executors.cpu.backend import CpuBackend
from apexbench.engine.executors.cpu.host_rows import HostLane, element_dtype
from apexbench.engine.executors.cpu.kv import GpuPool
from apexbench.engine.executors.cpu.model_state import LogitsObserver, ModelState
from apexbench.engine.executors.cpu.rows import BlocksOf
from apexbench.engine.executors.cpu.sequences import PromptOf, Sequences, TokenObserver
from apexbench.engine.executors.threads.executor import ThreadedExecutor
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.tiers import Pools

# In-layer rows of two batches, and cohorts: one per layer at most, and one that enters.
_SPARE_TICKETS = 8


@dataclass(frozen=True, slots=True)
class Threading:
    """Threads of the two lanes that compute: torch's, and the C library's workers."""

    gpu_threads: int = 1
    cpu_threads: int = 1


class CpuExecutor(ThreadedExecutor):
    """Lanes on threads with a real model behind them."""

    def __init__(
        self, model: ModelState, clock: Clock, pins: dict[str, Callable[[], None]]
    ) -> None:
        super().__init__(CpuBackend(model), clock, pins)
        self._model = model

    def read_blocks(self, blocks_of: BlocksOf) -> None:
        """Whom to ask for the KV blocks of a sequence."""
        self._model.blocks_of = blocks_of

    @property
    def sequences(self) -> Sequences:
        """Token ids of the sequences in flight."""
        return self._model.sequences


@contextmanager
def open_cpu(
    decoder: Decoder,
    pools: Pools,
    prompt_of: PromptOf,
    clock: Clock,
    *,
    threading: Threading | None = None,
    cpu_kv_dtype: KvDtype | None = None,
    on_logits: LogitsObserver | None = None,
    on_token: TokenObserver | None = None,
) -> Iterator[CpuExecutor]:
    """An executor for one run; its memory and threads go when the block ends.

    cpu_kv_dtype: of the host's KV cache, None the model's own. Raises InputError where the host
    pool does not fit into memory.
    """
    counts = threading or Threading()
    shape = decoder.config.shape
    gpu = GpuPool(
        *(shape.num_layers, pools.gpu_tokens, shape.num_kv_heads, shape.head_dim),
        *(pools.gpu_block_tokens, decoder.weights.dtype),
    )
    with ExitStack() as stack:
        lane = None
        workers: tuple[int, ...] = ()
        if pools.cpu_tokens >= pools.cpu_block_tokens:
            in_flight = shape.num_layers + _SPARE_TICKETS
            pool = stack.enter_context(Pool(counts.cpu_threads, max_in_flight=in_flight))
            workers = pool.cpus
            cache = stack.enter_context(KvCache(geometry_of(decoder, pools, cpu_kv_dtype), pool))
            lane = HostLane(cache, pool, decoder)
        model = ModelState(decoder, gpu, lane, Sequences(prompt_of, on_token), on_logits)
        pins = {"gpu": lambda: pin_gpu_lane(counts.gpu_threads, workers)}
        yield stack.enter_context(CpuExecutor(model, clock, pins))


def geometry_of(
    decoder: Decoder, pools: Pools, cpu_kv_dtype: KvDtype | None, num_layers: int | None = None
) -> KvGeometry:
    """The host's KV cache of a model, of all its layers unless told otherwise."""
    shape = decoder.config.shape
    return KvGeometry(
        num_layers=num_layers or shape.num_layers,
        num_blocks=pools.cpu_tokens // pools.cpu_block_tokens,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        block_size=pools.cpu_block_tokens,
        kv_dtype=cpu_kv_dtype or element_dtype(decoder.weights.dtype),
    )


def pin_gpu_lane(gpu_threads: int, workers: tuple[int, ...]) -> None:
    """On the lane's own thread: torch's threads, away from the workers' CPUs where there is room.

    Threads that torch starts from here inherit the CPUs.
    """
    torch.set_num_threads(gpu_threads)
    left = os.sched_getaffinity(0) - set(workers)
    if len(left) >= gpu_threads:
        os.sched_setaffinity(0, left)
