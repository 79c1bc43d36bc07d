"""How much is measured: the sets behind `--quick` and the default, and how many threads."""

from dataclasses import dataclass

from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.errors import UsageError

Heads = tuple[int, int]  # query heads, KV heads
# Of Llama-2 7B, Llama-3 8B and, with twice the rows' work, the group of Llama-3 70B.
MHA, GQA_4, GQA_8 = (32, 32), (32, 8), (32, 4)
# A layer's KV of a measured job, in tokens: beyond it a job takes as long as its bytes.
MAX_JOB_TOKENS = 1 << 16
# From part of a block to long contexts. The last block of a row is half full, as it is on average:
# what full blocks alone take is up to a quarter less for rows of a few blocks.
LENGTHS = (16, 96, 288, 1056, 4128, 16352)


@dataclass(frozen=True, slots=True)
class ProfileScope:
    """One size of a profile run.

    Jobs of `rows` x `tokens` are measured with every dtype and heads, `num_rounds` times over, and
    jobs of the lengths in `held_out` (one list per job) beside them, which no fit will see. No
    jobs begin after `budget_s` seconds: what is missing then is said.
    """

    name: str
    dtypes: tuple[KvDtype, ...]
    heads: tuple[Heads, ...]
    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    num_repeats: int
    num_rounds: int
    held_out: tuple[tuple[int, ...], ...]
    held_out_dtypes: tuple[KvDtype, ...]
    num_samples: int  # of copies, waits and steps
    budget_s: float

    def jobs(self) -> list[tuple[tuple[int, ...], int]]:
        """(numbers of rows, tokens of each row), without those that are too large."""
        return [
            (tuple(rows for rows in self.rows if rows * tokens <= MAX_JOB_TOKENS), tokens)
            for tokens in self.tokens
        ]


# Lengths as they meet in a batch: from one block to thousands of tokens, a constant ratio apart.
_MIXED = tuple(round(32 * 2 ** (7 * step / 23)) for step in range(24))

FULL = ProfileScope(
    name="full",
    dtypes=("fp16", "int8", "bf16"),
    heads=(MHA, GQA_4, GQA_8),
    rows=(1, 4, 32),
    tokens=LENGTHS,
    num_repeats=3,
    num_rounds=2,
    held_out=((40,) * 3, (150,) * 24, (600,) * 2, (700,) * 12, (3000,) * 5, (6000,) * 2, _MIXED),
    held_out_dtypes=("fp16", "int8"),
    num_samples=300,
    budget_s=110.0,
)
QUICK = ProfileScope(
    name="quick",
    dtypes=("fp16", "int8"),
    heads=(MHA, GQA_4),
    rows=(1, 16),
    tokens=LENGTHS[:-1],
    num_repeats=3,
    num_rounds=1,
    held_out=((150,) * 24, (3000,) * 5),
    held_out_dtypes=("fp16",),
    num_samples=100,
    budget_s=14.0,
)


def choose_threads(num_cores: int, wished: int | None) -> tuple[int, ...]:
    """Numbers of threads to measure, ascending: one, some between, all but one, all.

    `wished` is the most there shall be. UsageError unless that is 1 to `num_cores`.
    """
    if wished is not None and not 1 <= wished <= num_cores:
        raise UsageError(
            f"--cpu-threads is {wished}; this process may use 1 to {num_cores} cores here"
        )
    most = wished or num_cores
    return tuple(sorted({1, max(1, most // 4), max(1, most // 2), max(1, most - 1), most}))
