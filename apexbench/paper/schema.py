"""Keys of the page's config with their types; nothing is resolved or cross-checked here."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Mark = Literal["P", "S", "I"]
Test = Literal["gain", "latency", "order", "kernel", "share", "cpu_share", "sample", "none"]
# Tests by what they need: a GPU's profile, runs of two policies, bounds.
ON_GPUS = ("cpu_share", "sample")
ON_RUNS = ("gain", "latency", "order", "kernel")
BOUNDED = ("gain", "latency", "kernel", "share", "cpu_share", "sample")
KERNEL_RUNS = 2  # the paper's kernel, then the other

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[int, Field(strict=True, ge=0)]


class _Table(BaseModel):
    """A table of the file: every key is known, no value changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Defaults(_Table):
    """What a run does where it says nothing. `ours` never enter a verdict."""

    policies: tuple[Name, ...] = Field(min_length=1)
    rates: tuple[Name, ...] = ("inf",)
    seeds: Count = 1
    seed: Number = 0
    requests: Count
    draws: Number = 0
    ours: tuple[Name, ...] = ()


class Deployed(_Table):
    """What runs and sweeps have in common; what is not stated comes from the defaults."""

    id: Name
    gpu: Name
    host: Name
    model: Name
    workload: Name
    cpu_kernel: Name = "paper"
    policies: tuple[Name, ...] | None = None
    seeds: Count | None = None
    requests: Count | None = None
    draws: Number | None = None


class RunTable(Deployed):
    """One comparison."""

    rates: tuple[Name, ...] | None = None


class SweepTable(Deployed):
    """One comparison at saturation per number of GPU KV tokens."""

    gpu_kv_tokens: tuple[Count, ...] = Field(min_length=1)


class Claim(_Table):
    """A sentence of a paper and how it is tested.

    `low` and `high` bound the value in `unit`: per cent of gain, a ratio, or per cent of a rate.
    `read` says which reading of the words is tested, `untestable` why there can be no verdict.
    """

    id: Name
    paper: Name
    text: Name
    mark: Mark
    value: Name
    low: float | None = None
    high: float | None = None
    unit: Literal["%", "ratio", "times"] | None = None
    gpu: Name
    workload: Name
    test: Test
    candidate: Name | None = None
    baseline: Name | None = None
    runs: tuple[Name, ...] = ()
    rates: tuple[Name, ...] = ()
    rows_must_agree: bool = False
    untestable: Name | None = None
    read: Name
    attention_over_linear: tuple[float, ...] = ()
    rows: Count | None = None
    cpu_us: float | None = Field(None, gt=0)
    gpu_us: float | None = Field(None, gt=0)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs it names."""
        return tuple(name.strip() for name in self.gpu.split(","))

    def missing(self) -> str | None:
        """The first key that the claim's test needs and that is not there."""
        needed = {
            **({"candidate": self.candidate, "baseline": self.baseline, "runs": self.runs}
               if self.test in ON_RUNS else {}),
            **({"high": self.high} if self.test in BOUNDED else {}),
            **({"rates": self.rates} if self.test == "latency" else {}),
            **({"attention_over_linear": self.attention_over_linear}
               if self.test == "share" else {}),
            **({"rows": self.rows, "cpu_us": self.cpu_us, "gpu_us": self.gpu_us}
               if self.test == "sample" else {}),
            **({"untestable": self.untestable} if self.test == "none" else {}),
        }  # fmt: skip
        return next((key for key, value in needed.items() if value in (None, ())), None)


class PlanFile(_Table):
    """The whole file."""

    title: Name
    papers: dict[str, str]
    marks: dict[Mark, str]
    frozen: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    defaults: Defaults
    runs: tuple[RunTable, ...] = Field(min_length=1)
    sweeps: tuple[SweepTable, ...] = ()
    claims: tuple[Claim, ...] = Field(min_length=1)
