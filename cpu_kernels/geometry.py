"""Sizes of a KV cache on the host: dtypes, blocks, tiles and their bytes; no memory.

The same sums as csrc/shape.c and csrc/layout.h, so that sizes are known without the library.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from apexbench.errors import UsageError, unknown_name

KvDtype = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
ScaleDtype = Literal["fp32", "fp16"]
ElementDtype = Literal["fp32", "fp16", "bf16"]

KV_DTYPES: tuple[KvDtype, ...] = get_args(KvDtype)
SCALE_DTYPES: tuple[ScaleDtype, ...] = get_args(ScaleDtype)
ELEMENT_DTYPES: tuple[ElementDtype, ...] = get_args(ElementDtype)

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
# Elements of the summed dimension that stand together in a lane, as dot products take them.
PACKED_ELEMENTS = {"fp32": 1, "fp16": 1, "bf16": 2, "int8": 4, "fp8": 1}

LANES = 16
STRIPE_LANES = 32
LINE_BYTES = 64
SMALLEST_BLOCK = 8
MAX_BLOCK_SIZE = 128
MAX_HEAD_DIM = 256


@dataclass(frozen=True, slots=True)
class KvGeometry:
    """What a KV cache holds: `num_blocks` blocks of `block_size` tokens in each of its layers.

    kv_dtype: fp32, fp16, bf16, int8 (one scale of `scale_dtype` per token and head) or fp8
    (e4m3fn). block_size: 8 or a multiple of 16 up to 128. head_dim: a multiple of 16 up to 256.
    Raises UsageError.
    """

    num_layers: int
    num_blocks: int
    num_kv_heads: int
    head_dim: int
    block_size: int = 64
    kv_dtype: KvDtype = "fp16"
    scale_dtype: ScaleDtype = "fp16"

    def __post_init__(self) -> None:
        if self.kv_dtype not in KV_DTYPES:
            raise unknown_name("kv_dtype", self.kv_dtype, KV_DTYPES)
        if self.scale_dtype not in SCALE_DTYPES:
            raise unknown_name("scale_dtype", self.scale_dtype, SCALE_DTYPES)
        for name in ("num_layers", "num_blocks", "num_kv_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1")
        self._check_tile()

    def _check_tile(self) -> None:
        if self.head_dim % LANES or not LANES <= self.head_dim <= MAX_HEAD_DIM:
            raise UsageError(
                f"head_dim is {self.head_dim}; expected a multiple of {LANES} up to {MAX_HEAD_DIM}"
            )
        is_multiple = self.block_size % LANES == 0 and LANES <= self.block_size <= MAX_BLOCK_SIZE
        if not is_multiple and self.block_size != SMALLEST_BLOCK:
            raise UsageError(
                f"block_size is {self.block_size} tokens; expected {SMALLEST_BLOCK} or a multiple"
                f" of {LANES} up to {MAX_BLOCK_SIZE}"
            )

    @property
    def pack(self) -> int:
        """Elements of the summed dimension that stand together in a lane."""
        return PACKED_ELEMENTS[self.kv_dtype]

    @property
    def scale_bytes(self) -> int:
        """Bytes of the scales of K or of V in a tile, padding included; 0 without scales."""
        if self.kv_dtype != "int8":
            return 0
        return _padded(self.block_size * ELEMENT_BYTES[self.scale_dtype])

    @property
    def kv_bytes(self) -> int:
        """Bytes of K or of V in a tile, padding included."""
        return _padded(self.block_size * self.head_dim * ELEMENT_BYTES[self.kv_dtype])

    @property
    def tile_bytes(self) -> int:
        """Bytes of one KV head of one block: K, V and their scales."""
        return 2 * (self.scale_bytes + self.kv_bytes)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in one layer: the tiles of all its KV heads."""
        return self.num_kv_heads * self.tile_bytes

    @property
    def layer_bytes(self) -> int:
        """Bytes of all blocks of one layer."""
        return self.num_blocks * self.block_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole cache."""
        return self.num_layers * self.layer_bytes

    def blocks_of(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens` tokens of one sequence."""
        return -(-num_tokens // self.block_size)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // LINE_BYTES) * LINE_BYTES
