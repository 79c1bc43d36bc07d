"""The C interface of csrc/apx.h as ctypes: numbers, structures and signatures; loads nothing."""

import ctypes
from ctypes import c_bool, c_char_p, c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from enum import IntEnum
from typing import Any, ClassVar

ABI_VERSION = 1

DTYPE_NUMBERS = {"fp32": 0, "fp16": 1, "bf16": 2, "int8": 3, "fp8": 4}
ISA_NAMES = ("reference", "avx2", "avx512", "avx512x", "neon")

CHECK_BLOCKS, APPEND = 1, 2
# Priorities: the lower goes first.
IN_LAYER, DEFERRED = 0, 1


class Status(IntEnum):
    """apx_status: what a call answers."""

    OK = 0
    ARGUMENT = 1
    BLOCK_ID = 2
    BUSY = 3
    MEMORY = 4
    UNSUPPORTED = 5
    FORKED = 6
    TIMEOUT = 7
    CANCELLED = 8
    TICKET = 9
    FULL = 10
    STOPPED = 11


Fields = ClassVar[list[tuple[str, Any]]]


class CacheStruct(ctypes.Structure):
    """apx_cache."""

    _fields_ = (
        ("base", c_void_p),
        ("layer_bytes", c_int64),
        ("num_blocks", c_int64),
        ("num_layers", c_int32),
        ("kv_dtype", c_int32),
        ("scale_dtype", c_int32),
        ("block_size", c_int32),
        ("head_dim", c_int32),
        ("num_kv_heads", c_int32),
    )


class PoolOptions(ctypes.Structure):
    """apx_pool_options."""

    _fields_ = (
        ("num_threads", c_int32),
        ("is_pinned", c_int32),
        ("max_in_flight", c_int32),
        ("spin_ns", c_int64),
    )


class BatchStruct(ctypes.Structure):
    """apx_batch."""

    _fields_ = (
        ("num_rows", c_int32),
        ("num_q_heads", c_int32),
        ("q_dtype", c_int32),
        ("flags", c_int32),
        ("block_tables", c_void_p),
        ("table_stride", c_int64),
        ("context_lens", c_void_p),
        ("softmax_scale", c_float),
        ("window", c_int32),
        ("sink_tokens", c_int32),
        ("sink_logits", c_void_p),
    )


class IoStruct(ctypes.Structure):
    """apx_io."""

    _fields_ = (
        ("q", c_void_p),
        ("k_new", c_void_p),
        ("v_new", c_void_p),
        ("out", c_void_p),
        ("lse", c_void_p),
        ("q_stride", c_int64),
        ("kv_stride", c_int64),
        ("out_stride", c_int64),
        ("lse_stride", c_int64),
    )


class SubmissionStruct(ctypes.Structure):
    """apx_submission."""

    _fields_ = (
        ("job", c_void_p),
        ("layer", c_int32),
        ("priority", c_int32),
        ("io", IoStruct),
        ("flag", c_void_p),
        ("callback", c_void_p),
        ("user", c_void_p),
    )


# Name: result, arguments. Structures are passed as addresses, which ctypes converts fastest.
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "apx_last_error": (c_char_p, ()),
    "apx_abi_version": (c_int32, ()),
    "apx_isa_now": (c_int32, ()),
    "apx_isa_name": (c_char_p, (c_int32,)),
    "apx_isa_is_supported": (c_bool, (c_int32,)),
    "apx_isa_error": (c_char_p, ()),
    "apx_force_isa": (c_int32, (c_int32,)),
    "apx_tile_bytes": (c_int64, (c_void_p,)),
    "apx_block_bytes": (c_int64, (c_void_p,)),
    "apx_store": (
        c_int32,
        (c_void_p, c_int32, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int32),
    ),
    "apx_load": (
        c_int32,
        (c_void_p, c_int32, c_void_p, c_int64, c_int64, c_void_p, c_void_p),
    ),
    "apx_memory_map": (c_int32, (c_int64, c_void_p)),
    "apx_memory_unmap": (None, (c_void_p, c_int64)),
    "apx_memory_available": (c_int64, ()),
    "apx_memory_huge_fraction": (c_double, (c_void_p, c_int64)),
    "apx_pool_create": (c_int32, (c_void_p, c_void_p)),
    "apx_pool_destroy": (None, (c_void_p,)),
    "apx_pool_num_threads": (c_int32, (c_void_p,)),
    "apx_pool_cpu": (c_int32, (c_void_p, c_int32)),
    "apx_pool_touch": (c_int32, (c_void_p, c_void_p, c_int64)),
    "apx_job_create": (c_int32, (c_void_p, c_void_p)),
    "apx_job_destroy": (None, (c_void_p,)),
    "apx_job_prepare": (c_int32, (c_void_p, c_void_p)),
    "apx_submit": (c_int32, (c_void_p, c_void_p, c_void_p)),
    "apx_done": (c_bool, (c_void_p, c_uint64)),
    "apx_wait": (c_int32, (c_void_p, c_uint64, c_int64)),
    "apx_cancel": (c_int32, (c_void_p, c_uint64)),
    "apx_run": (c_int32, (c_void_p, c_void_p)),
    "apx_run_inline": (c_int32, (c_void_p,)),
    "apx_wait_until": (c_int64, (c_int64, c_int64)),
    "apx_stamp": (None, (c_void_p,)),
}
