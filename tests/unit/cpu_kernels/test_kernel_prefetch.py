"""How far ahead kernels ask for memory, and which blocks they walk together, changes no bits."""

import os
import subprocess
import sys

from apexbench.cpu_kernels import supported_isas
from apexbench.cpu_kernels.native import Library

DISTANCES = ("0", "64", "8192", "1048576")
# Lengths that end in a block, at its edge, and within the blocks that are walked together.
SCRIPT = """
import hashlib, sys
import numpy as np
from apexbench.cpu_kernels import KvCache, KvGeometry, Pool, decode_attention

lens = [1, 16, 70, 128, 333]
rng = np.random.default_rng(3)
digest = hashlib.sha256()
pool = Pool(1, is_pinned=False)
for dtype in ("fp32", "fp16", "bf16", "int8", "fp8"):
    for block in (16, 32, 48, 64):
        cache = KvCache(KvGeometry(1, 128, 2, 64, block, dtype))
        table = rng.permutation(128)[: 5 * 21].reshape(5, 21).astype(np.int32)
        for row, count in enumerate(lens):
            k, v = rng.standard_normal((2, count, 2, 64), np.float32)
            cache.store(0, table[row], 0, k, v)
        for group in (1, 2, 4, 8):
            q = rng.standard_normal((5, 2 * group, 64), np.float32)
            out = decode_attention(q, cache, 0, table, lens, pool=pool)
            digest.update(np.ascontiguousarray(out).tobytes())
        cache.close()
print(digest.hexdigest())
"""


def digest_with(isa: str, distance: str | None) -> str:
    """Of all results of a process with this level and, unless None, this distance in bytes."""
    environment = os.environ | {"APEXBENCH_ISA": isa}
    environment.pop("APEXBENCH_PREFETCH_BYTES", None)
    if distance is not None:
        environment["APEXBENCH_PREFETCH_BYTES"] = distance
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bits_do_not_depend_on_how_far_ahead_memory_is_asked_for(compiled: Library) -> None:
    for isa in supported_isas():
        if isa == "reference":  # asks for nothing
            continue
        chosen = digest_with(isa, None)
        for distance in DISTANCES:
            assert digest_with(isa, distance) == chosen, (isa, distance)
