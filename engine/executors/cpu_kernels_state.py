"""What the CPU kernels are on this machine, for those who may not import them; runs nothing."""

from dataclasses import dataclass
from importlib import import_module

from apexbench.errors import ApexbenchError


@dataclass(frozen=True, slots=True)
class CpuKernelsState:
    """is_compiled: the library is in use; `detail` says which, or why not, in one sentence."""

    is_compiled: bool
    detail: str


def cpu_kernels_state() -> CpuKernelsState:
    """Load the kernels and ask; a library that cannot be used is an answer, not an error."""
    levels = import_module("apexbench.cpu_kernels.levels")
    try:
        notice: str | None = levels.fallback_notice()
        if notice is not None:
            return CpuKernelsState(is_compiled=False, detail=notice)
        supported = ", ".join(levels.supported_isas())
        detail = f"{levels.isa()} of {supported}; compiled by {levels.compiler()}"
    except ApexbenchError as error:
        return CpuKernelsState(is_compiled=False, detail=str(error))
    return CpuKernelsState(is_compiled=True, detail=detail)
