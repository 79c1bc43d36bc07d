"""The rows of one step whose costs are asked for, and the plan they make. Decides nothing."""

from dataclasses import dataclass

from apexbench.engine.plan import PrefillChunk, StepPlan, SubBatch
from apexbench.engine.sequence import Tier
from apexbench.errors import UsageError

# Rows of a step on one tier. No engine runs a step of so many, and lanes of more take minutes.
MAX_ROWS = 16384


@dataclass(frozen=True, slots=True)
class Mix:
    """Decode rows on the GPU, in-layer CPU rows, and new prompt tokens of one prompt.

    KV tokens are sums over the rows. UsageError for a negative number, more than MAX_ROWS rows, an
    empty mix, or rows and KV tokens that contradict each other.
    """

    rows: int = 0
    kv_tokens: int = 0
    prefill_tokens: int = 0
    cpu_rows: int = 0
    cpu_kv_tokens: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise UsageError(f"{_flag(name)} is {getattr(self, name)}; expected 0 or more")
        for name in ("rows", "cpu_rows"):
            if getattr(self, name) > MAX_ROWS:
                given = f"{_flag(name)} is {getattr(self, name)}"
                raise UsageError(f"{given}; expected at most {MAX_ROWS}")
        if not self.linear_rows:
            raise UsageError("nothing to predict; give --rows, --prefill-tokens or --cpu-rows")
        _check_tokens("rows", self.rows, "kv_tokens", self.kv_tokens)
        _check_tokens("cpu_rows", self.cpu_rows, "cpu_kv_tokens", self.cpu_kv_tokens)

    @property
    def linear_rows(self) -> int:
        """Rows of the matrix products."""
        return self.rows + self.prefill_tokens + self.cpu_rows

    @property
    def sampled_rows(self) -> int:
        """Rows that get a token, one of every sequence; the prompt's last row is one of them."""
        return self.rows + self.cpu_rows + bool(self.prefill_tokens)

    @property
    def is_captured(self) -> bool:
        """Whether the step replays a captured graph: decode on the GPU alone."""
        return not (self.prefill_tokens or self.cpu_rows)

    def plan(self) -> StepPlan:
        """One sub-batch; sequences are numbered GPU rows, CPU rows, prompt."""
        first_cpu = self.rows
        prompt = first_cpu + self.cpu_rows
        chunk = PrefillChunk(prompt, self.prefill_tokens, 0, Tier.GPU, is_last=True)
        batch = SubBatch(
            chunks=(chunk,) if self.prefill_tokens else (),
            gpu_rows=tuple(range(first_cpu)),
            gpu_kv_tokens=self.kv_tokens,
            in_layer_rows=tuple(range(first_cpu, prompt)),
            in_layer_kv_tokens=self.cpu_kv_tokens,
        )
        return StepPlan(0, (batch,))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_tokens(rows_name: str, rows: int, tokens_name: str, tokens: int) -> None:
    if tokens < rows or (tokens and not rows):
        raise UsageError(
            f"{_flag(rows_name)} {rows} with {_flag(tokens_name)} {tokens}; expected at least one "
            "KV token per row, summed over the rows"
        )
