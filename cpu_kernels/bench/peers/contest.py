"""Our kernels and every installed peer in turn on one core, 16 bit; calls no library itself."""

import importlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from apexbench.cpu_kernels.bench.calls import on_cpus, touched_bytes
from apexbench.cpu_kernels.bench.kv import KernelContestant, Rows, rotating_cache
from apexbench.cpu_kernels.bench.peers.case import Peer, PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.samples import Pass, Rate, ratio_of
from apexbench.cpu_kernels.bench.scope import MAIN_BATCH, MAIN_CONTEXT, PeerDtype, Shape, shape_of
from apexbench.cpu_kernels.bench.speed import Row, row_of
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.cpu_kernels.memory import available_bytes
from apexbench.errors import InputError, unknown_name

# Name -> module, class. Loaded when their turn comes: none of them is needed.
PEERS = {
    "torch SDPA": ("torch_sdpa", "TorchSdpa"),
    "torch SDPA, group as queries": ("torch_sdpa", "TorchSdpaGrouped"),
    "torch flex": ("torch_flex", "TorchFlex"),
    "onnxruntime GQA": ("onnxruntime_gqa", "OnnxruntimeGqa"),
    "vLLM CPU, block 128": ("vllm_cpu", "VllmCpu"),
    "IPEX, block 128": ("ipex", "Ipex"),
    "IPEX, block 16": ("ipex", "IpexSmallBlocks"),
}
SLOW_PEERS = ("torch SDPA", "torch flex")
PEER_GROUPS = (1, 4)
OUR_BLOCKS = (16, 32, 64)
ONE_CORE = 1


def choose_peers(wished: Sequence[str]) -> list[str]:
    """Peers with one of the wished parts in their name, case aside; all when nothing is wished.

    Raises UsageError for a part that no name has.
    """
    for part in wished:
        if not any(part.lower() in name.lower() for name in PEERS):
            raise unknown_name("peer", part, PEERS)
    parts = [part.lower() for part in wished] or [""]
    return [name for name in PEERS if any(part in name.lower() for part in parts)]


class PeerContestant:
    """A peer on the core that our worker has, each pass on the next region of its KV."""

    def __init__(self, name: str, peer: Peer, case: PeerCase, cpus: list[int]) -> None:
        self.name = name
        self.peer = peer
        self._case = case
        self._cpus = cpus
        self._next_region = 0

    def run(self) -> Pass:
        """One call, timed around it; the calling thread does all the work."""
        with on_cpus(self._cpus):
            began = time.perf_counter()
            self.peer.run(self._next_region)
            seconds = time.perf_counter() - began
        self._next_region = (self._next_region + 1) % self._case.num_regions
        return Pass(seconds, self._case.kv_bytes)


def measure_peers(bench: Workbench) -> Iterator[list[Row]]:
    """Rows of peers and of ours per shape and dtype; those that cannot run come with a reason."""
    for group in PEER_GROUPS:
        for dtype in bench.scope.peer_dtypes:
            shape = shape_of(group, max(OUR_BLOCKS), MAIN_BATCH, MAIN_CONTEXT)
            yield _contest(bench, shape, dtype)


def _contest(bench: Workbench, shape: Shape, dtype: PeerDtype) -> list[Row]:
    pool = bench.pools[ONE_CORE]
    case = PeerCase(shape, dtype, lambda size: touched_bytes(bench.calls, size, bench.widest))
    ours = _ours(bench, shape, dtype)
    peers, refused = _open_peers(bench, case, pool.cpus)
    bench.tell(f"peers, GQA group {shape.gqa_group}, {dtype}")
    contestants = [contestant for _, contestant in ours]
    rates = bench.compete([*contestants, *peers], ONE_CORE)
    raced = zip(ours, rates, strict=False)
    rows = [row_of(found, kernel, ONE_CORE, rate) for (found, kernel), rate in raced]
    best = max(rates[: len(ours)], key=lambda rate: rate.gbps.median)
    with_rates = zip(peers, rates[len(ours) :], strict=True)
    return [
        *({"name": "apexbench"} | row for row in rows),
        *(_peer_row(peer, case, rate, best) for peer, rate in with_rates),
        *refused,
    ]


def _ours(bench: Workbench, shape: Shape, dtype: PeerDtype) -> list[tuple[Shape, KernelContestant]]:
    found = []
    for block_size in OUR_BLOCKS:
        own = shape_of(shape.gqa_group, block_size, shape.batch, shape.context)
        cache = rotating_cache(own, dtype, bench.widest)
        rows = Rows(own.contexts, own.num_q_heads)
        arguments = (bench.calls, cache, rows, bench.best_level, bench.pools[ONE_CORE])
        found.append((own, KernelContestant(*arguments)))
    return found


def _open_peers(
    bench: Workbench, case: PeerCase, cpus: list[int]
) -> tuple[list[PeerContestant], list[Row]]:
    opened, refused = [], []
    for name in choose_peers(bench.scope.peers):
        module, kind = PEERS[name]
        if name in SLOW_PEERS and not bench.scope.has_slow_peers:
            refused.append(_described(name, case) | {"unavailable": "takes too long for --quick"})
            continue
        bench.check()
        bench.tell(f"opening {name}")
        try:
            opened.append(PeerContestant(name, _open(bench, module, kind, case), case, cpus))
        except (PeerUnavailableError, InputError) as error:
            refused.append(_described(name, case) | {"unavailable": str(error)})
    return opened, refused


def _open(bench: Workbench, module: str, kind: str, case: PeerCase) -> Peer:
    """The peer, its answer checked; PeerUnavailableError or InputError (memory) says why not."""
    needed = case.num_regions * case.kv_bytes
    available = available_bytes(bench.calls.library)
    if available is not None and available < 2 * needed:
        raise PeerUnavailableError("too little memory left")
    package = importlib.import_module(f"apexbench.cpu_kernels.bench.peers.{module}")
    peer: Peer = getattr(package, kind)(case)
    case.check(peer)
    return peer


def _described(name: str, case: PeerCase) -> dict[str, Any]:
    shape = case.shape
    return {
        "name": name,
        "kv_dtype": case.dtype,
        "gqa_group": shape.gqa_group,
        "head_dim": shape.head_dim,
        "batch": shape.batch,
        "context": shape.context,
        "threads": ONE_CORE,
    }


def _peer_row(contestant: PeerContestant, case: PeerCase, rate: Rate, best: Rate) -> Row:
    lead = ratio_of(
        [repeat.measured.gbps for repeat in best.repeats],
        [repeat.measured.gbps for repeat in rate.repeats],
    )
    return _described(contestant.name, case) | {
        "version": contestant.peer.version,
        "gbps": rate.gbps.median,
        "ratio_to_read_limit": rate.ratio,
        "spread": rate.gbps.spread,
        "limit_gbps": rate.limit_gbps.median,
        "repeats": len(rate.repeats),
        "preempted_repeats": rate.num_preempted,
        "is_void": rate.is_void,
        "apexbench_speedup": lead.median,
        "apexbench_speedup_spread": lead.spread,
    }
