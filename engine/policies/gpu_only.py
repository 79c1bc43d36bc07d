"""The baseline: everything on the GPU; when blocks run out the newest sequence is recomputed."""

from apexbench.engine.policies.base import GPU_ONLY, Candidates, Choice, PolicyContext


class GpuOnly:
    """Continuous batching with chunked prefill, as vLLM schedules it."""

    name = "gpu-only"
    uses_cpu = False

    def __init__(self, context: PolicyContext) -> None:
        del context  # nothing to decide

    def choose(self, work: Candidates) -> Choice:
        """There is no CPU row to place."""
        del work
        return GPU_ONLY
