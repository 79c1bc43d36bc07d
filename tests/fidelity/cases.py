"""What is run on both: small workloads on a T4 beside this host, half of them for the terms."""

from dataclasses import dataclass, replace

from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.policies.registry import list_policies
from apexbench.engine.tiers import Pools
from apexbench.records import Workload
from apexbench.workloads.arrivals import Arrivals
from apexbench.workloads.build import ContextLimit, build
from apexbench.workloads.sources import resolve

GPU = "t4"
CPU_THREADS = 1  # of two cores; the other one has the lanes and the engine
POLICIES = tuple(entry.name for entry in list_policies())
SEED = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One workload on one model. `is_seen`: the terms are taken from its runs.

    Fewer layers than the model has keep a run short and the host's KV small; a layer is that of the
    model. `rate_rps` None: everything waits at t = 0.
    """

    name: str
    model: str
    num_layers: int
    source: str
    num_requests: int
    gpu_kv_tokens: int
    host_kv_tokens: int
    is_seen: bool
    rate_rps: float | None = None
    max_context: int = 2048

    def deployment(self, host: str) -> Deployment:
        """On a T4 and this host's profile."""
        found = deploy(gpu=GPU, host=host, model=self.model, cpu_threads=CPU_THREADS)
        return replace(found, model=replace(found.model, num_layers=self.num_layers))

    def workload(self) -> Workload:
        """The requests, the same for every policy."""
        rate = self.rate_rps
        return build(
            resolve(self.source),
            arrivals=Arrivals.all_at_once() if rate is None else Arrivals.poisson(rate),
            num_requests=self.num_requests,
            duration_s=None,
            seed=SEED,
            max_context=ContextLimit(self.max_context, "clip"),
        )

    def pools(self, *, uses_cpu: bool) -> Pools:
        """KV memory of both tiers."""
        return Pools(self.gpu_kv_tokens, self.host_kv_tokens if uses_cpu else 0)


LLAMA_2, LLAMA_3 = "llama-2-7b", "llama-3.1-8b"
CASES = (
    Case("osc", LLAMA_2, 8, "osc", 40, 2048, 8192, is_seen=True, max_context=768),
    Case("even", LLAMA_2, 16, "uniform:64-256/16-64", 24, 1280, 8192, is_seen=True),
    Case("grouped", LLAMA_3, 8, "uniform:256-1024/32-96", 32, 4096, 16384, is_seen=True),
    Case("whole", LLAMA_2, 32, "uniform:64-256/16-48", 20, 1280, 4096, is_seen=False),
    Case("answers", LLAMA_2, 8, "uniform:16-64/96-192", 32, 1024, 8192, is_seen=False),
    Case("prompts", LLAMA_3, 8, "uniform:768-1536/16-48", 20, 4096, 16384, is_seen=False),
    Case("arriving", LLAMA_2, 8, "uniform:64-384/16-96", 32, 1536, 8192, is_seen=False,
         rate_rps=4.0),
)  # fmt: skip
