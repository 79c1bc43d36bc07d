"""A batch of rows as attention is asked for it, checked; plans and computes nothing."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.arrays import integers
from apexbench.cpu_kernels.geometry import ELEMENT_DTYPES, ElementDtype, KvGeometry
from apexbench.errors import UsageError, unknown_name


@dataclass(frozen=True, slots=True)
class Batch:
    """One decode token each of `num_rows` sequences.

    block_tables: int32 [rows, entries], ids of the blocks that hold a row's tokens in order;
    context_lens: int32 [rows], tokens a row attends to. Both C-contiguous, as they were passed or
    copied. Row r sees its last `window` tokens (0: all) and its first `sink_tokens`. sink_logits:
    float32 [query heads] or None.
    """

    block_tables: NDArray[np.int32]
    context_lens: NDArray[np.int32]
    num_q_heads: int
    q_dtype: ElementDtype
    softmax_scale: float
    window: int = 0
    sink_tokens: int = 0
    sink_logits: NDArray[np.float32] | None = None
    appends: bool = False
    checks_blocks: bool = True

    @property
    def num_rows(self) -> int:
        """Sequences of the batch."""
        return len(self.context_lens)

    def copy(self) -> "Batch":
        """The same with arrays of its own."""
        logits = None if self.sink_logits is None else self.sink_logits.copy()
        return replace(
            self,
            block_tables=self.block_tables.copy(),
            context_lens=self.context_lens.copy(),
            sink_logits=logits,
        )

    def check(self, geometry: KvGeometry) -> None:
        """Raise UsageError, in one sentence, for what no cache of this geometry can answer."""
        if self.q_dtype not in ELEMENT_DTYPES:
            raise unknown_name("q_dtype", self.q_dtype, ELEMENT_DTYPES)
        if self.num_q_heads < 1 or self.num_q_heads % geometry.num_kv_heads:
            raise UsageError(
                f"num_q_heads is {self.num_q_heads}; expected a multiple of the cache's"
                f" {geometry.num_kv_heads} KV heads"
            )
        if not isfinite(self.softmax_scale):
            raise UsageError(f"softmax_scale is {self.softmax_scale}; expected a finite number")
        for name in ("window", "sink_tokens"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)} tokens; expected 0 or more")
        self._check_sinks()
        self._check_lens(geometry)

    def _check_sinks(self) -> None:
        if self.sink_logits is not None and self.sink_logits.shape != (self.num_q_heads,):
            raise UsageError(
                f"sink_logits has shape {self.sink_logits.shape}; expected ({self.num_q_heads},),"
                " one per query head"
            )

    def _check_lens(self, geometry: KvGeometry) -> None:
        if len(self.block_tables) != self.num_rows:
            raise UsageError(
                f"block_tables has {len(self.block_tables)} rows and context_lens"
                f" {self.num_rows}; expected as many"
            )
        if not self.num_rows:
            return
        least, most = int(self.context_lens.min()), int(self.context_lens.max())
        if least < int(self.appends):
            why = "the appended token counts" if self.appends else "0 is an empty row"
            raise UsageError(
                f"context_lens has {least}; expected {int(self.appends)} or more: {why}"
            )
        room = self.block_tables.shape[1] * geometry.block_size
        if most > room:
            raise UsageError(
                f"context_lens has {most} tokens and a row of block_tables holds {room}; pass"
                " tables with more entries"
            )


def checked_batch(
    geometry: KvGeometry,
    block_tables: Any,
    context_lens: Any,
    sink_logits: Any,
    **scalars: Any,
) -> Batch:
    """The batch with its arrays as contiguous int32 and float32. Raises UsageError."""
    logits = None if sink_logits is None else np.ascontiguousarray(sink_logits, np.float32)
    batch = Batch(
        integers("block_tables", block_tables, 2),
        integers("context_lens", context_lens, 1),
        sink_logits=logits,
        **scalars,
    )
    batch.check(geometry)
    return batch
