"""The backend of real tokens, as lanes on threads see it."""

from apexbench.engine.executors.cpu.model_state import ModelState
from apexbench.engine.executors.cpu.step import CpuStep
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry
from apexbench.records import Request


class CpuBackend:
    """Steps of one model."""

    def __init__(self, model: ModelState) -> None:
        self.model = model

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model."""
        return self.model.num_layers

    def admit(self, request: Request) -> None:
        """A request exists from now on."""
        self.model.sequences.admit(request)

    def release(self, request_id: int) -> None:
        """The request has ended."""
        self.model.sequences.release(request_id)

    def begin(self, plan: StepPlan, _: Carry) -> CpuStep:
        """Prepare a step's tensors."""
        return CpuStep(self.model, plan)

    def drop(self, cohort: int) -> None:
        """A cohort was given up."""
        self.model.cohorts.pop(cohort, None)
