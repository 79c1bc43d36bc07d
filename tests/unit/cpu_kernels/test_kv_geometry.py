"""Sizes in Python are the sizes in C, structures too; what cannot be is refused in a sentence."""

import ctypes
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.cpu_kernels import KvGeometry, structures
from apexbench.cpu_kernels.build import SOURCES
from apexbench.cpu_kernels.geometry import KV_DTYPES, SCALE_DTYPES
from apexbench.cpu_kernels.native import Library
from apexbench.errors import UsageError

BLOCK_SIZES = (8, *range(16, 129, 16))
STRUCTURES = {
    "apx_cache": structures.CacheStruct,
    "apx_pool_options": structures.PoolOptions,
    "apx_batch": structures.BatchStruct,
    "apx_io": structures.IoStruct,
    "apx_submission": structures.SubmissionStruct,
}


def struct_of(geometry: KvGeometry) -> structures.CacheStruct:
    numbers = structures.DTYPE_NUMBERS
    return structures.CacheStruct(
        num_blocks=geometry.num_blocks,
        num_layers=geometry.num_layers,
        kv_dtype=numbers[geometry.kv_dtype],
        scale_dtype=numbers[geometry.scale_dtype],
        block_size=geometry.block_size,
        head_dim=geometry.head_dim,
        num_kv_heads=geometry.num_kv_heads,
    )


@pytest.mark.parametrize(("kv_dtype", "scale_dtype"), [*product(KV_DTYPES, SCALE_DTYPES)])
def test_bytes_agree_with_the_library(kv_dtype: Any, scale_dtype: Any, compiled: Library) -> None:
    for block_size, head_dim in product(BLOCK_SIZES, range(16, 257, 16)):
        geometry = KvGeometry(3, 5, 7, head_dim, block_size, kv_dtype, scale_dtype)
        address = ctypes.addressof(struct_of(geometry))
        found = compiled.fast.apx_tile_bytes(address), compiled.fast.apx_block_bytes(address)
        assert found == (geometry.tile_bytes, geometry.block_bytes)


@given(st.integers(-8, 300), st.integers(-8, 300))
def test_both_refuse_the_same_tiles(block_size: int, head_dim: int) -> None:
    struct = struct_of(KvGeometry(1, 1, 1, 16, 16))
    struct.block_size, struct.head_dim = block_size, head_dim
    try:
        expected = KvGeometry(1, 1, 1, head_dim, block_size).tile_bytes
    except UsageError:
        expected = 0
    # Not the fixture: Hypothesis would share it between examples.
    found = library_or_skip().fast.apx_tile_bytes(ctypes.addressof(struct))
    assert found == expected


def library_or_skip() -> Library:
    from apexbench.cpu_kernels.native import library

    found = library()
    if found is None:
        pytest.skip("UNPROVEN: the CPU kernels are not compiled")
    return found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_layers": 0}, "num_layers is 0; expected at least 1"),
        ({"num_blocks": -1}, "num_blocks is -1; expected at least 1"),
        ({"num_kv_heads": 0}, "num_kv_heads is 0; expected at least 1"),
        ({"head_dim": 72}, "head_dim is 72; expected a multiple of 16 up to 256"),
        ({"head_dim": 272}, "head_dim is 272; expected a multiple of 16 up to 256"),
        (
            {"block_size": 24},
            "block_size is 24 tokens; expected 8 or a multiple of 16 up to 128",
        ),
        ({"kv_dtype": "int4"}, "unknown kv_dtype 'int4'; did you mean int8?"),
        ({"scale_dtype": "int8"}, "unknown scale_dtype 'int8'; known: fp16, fp32"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], sentence: str) -> None:
    sizes = {"num_layers": 1, "num_blocks": 1, "num_kv_heads": 1, "head_dim": 64} | change
    with pytest.raises(UsageError) as caught:
        KvGeometry(**sizes)
    assert str(caught.value) == sentence


def test_structures_lie_as_the_header_says(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("UNPROVEN: no C compiler; prove it with: apt-get install gcc libc6-dev")
    lines = [
        f'printf("{name} {field} %zu %zu\\n", offsetof({name}, {field}),'
        f" sizeof((({name} *)0)->{field}));"
        for name, structure in STRUCTURES.items()
        for field, *_ in structure._fields_
    ]
    lines += [f'printf("{name} %zu\\n", sizeof({name}));' for name in STRUCTURES]
    source = tmp_path / "offsets.c"
    source.write_text(
        '#include <stdio.h>\n#include "apx.h"\nint main(void) {\n' + "\n".join(lines) + "\n}\n"
    )
    program = tmp_path / "offsets"
    subprocess.run([compiler, f"-I{SOURCES}", str(source), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    expected = []
    for name, structure in STRUCTURES.items():
        for field, *_ in structure._fields_:
            place = getattr(structure, field)
            expected.append(f"{name} {field} {place.offset} {place.size}")
    expected += [f"{name} {ctypes.sizeof(kind)}" for name, kind in STRUCTURES.items()]
    assert done.stdout.splitlines() == expected
