"""What the page needs of the JSON that `apexbench predict` writes; reads it, computes nothing."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from apexbench.result import DeviceConstant


class _Part(BaseModel):
    """Unknown keys are ignored: the document may say more than the page shows."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Reliance(_Part):
    """A constant that a duration rests on."""

    constant: str
    kind: str
    sigma: float
    elasticity: float


class Op(_Part):
    """An op of a layer or of a step."""

    name: str
    kind: str
    lane: str
    seconds: float
    bytes: float
    flop: float
    flop_per_s: float
    intensity: float | None
    bound_by: str
    roofline_share: float | None
    provenance: str | None
    sigma: float
    rests_on: tuple[Reliance, ...]


class Layer(_Part):
    """One of `count` equal layers."""

    count: int
    gpu_s: float
    cpu_path_s: float
    ops: tuple[Op, ...]


class Step(_Part):
    """The whole step; `ops` are those outside its layers."""

    seconds: float
    sigma: float
    provenance: str | None
    output_tokens: int
    output_throughput_tok_s: float
    ops: tuple[Op, ...]


class Mix(_Part):
    """The rows of the step."""

    rows: int
    kv_tokens: int
    prefill_tokens: int
    cpu_rows: int
    cpu_kv_tokens: int


class Bottleneck(_Part):
    """What limits the step, as a sentence."""

    sentence: str


class Roofline(_Part):
    """The step against the ridges, in flop per byte."""

    intensity: float
    ridge: float
    reachable_ridge: float


class Roof(_Part):
    """Limits of a sort of work; no `flops_per_s` where only a rate of bytes is known."""

    name: str
    lane: str
    flops_per_s: float | None
    bytes_per_s: float


class Strategy(_Part):
    """A strategy at its best rows."""

    output_throughput_tok_s: float
    step_s: float
    in_layer_rows: int
    deferred_rows: int
    cohorts: int
    tpot_gpu_s: float
    tpot_cpu_s: float | None
    bottleneck: str


class Load(_Part):
    """What the steady states are of."""

    context: int
    gpu_rows: int
    max_cpu_rows: int


class Bounded(_Part):
    """The strategies under a bound on TPOT; None where one cannot keep it."""

    tpot_s: float
    steady: dict[str, Strategy | None]
    optimum: str


class Prediction(_Part):
    """What both forms say of themselves."""

    tool_version: str
    config: dict[str, str | int | float | None]
    is_ideal: bool
    constants: tuple[DeviceConstant, ...]


class StepPrediction(Prediction):
    """`apexbench predict --rows ...`."""

    mix: Mix
    layer: Layer
    step: Step
    bottleneck: Bottleneck
    roofline: Roofline
    roofs: tuple[Roof, ...]
    gpu_kv_tokens: int


class SteadyPrediction(Prediction):
    """`apexbench predict --steady ...`."""

    load: Load
    steady: dict[str, Strategy]
    optimum: str
    within_tpot: Bounded | None


def read(document: Mapping[str, Any]) -> StepPrediction | SteadyPrediction:
    """The document in the form it has."""
    form = SteadyPrediction if "steady" in document else StepPrediction
    return form.model_validate(document)
