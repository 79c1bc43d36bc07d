"""A small cache and pool on each backend, the compiled library and the NumPy fallback."""

from collections.abc import Iterator

import pytest

from apexbench.cpu_kernels import KvCache, KvGeometry, Pool, is_compiled
from apexbench.cpu_kernels.native import FALLBACK, VARIABLE, Library, library

NOT_COMPILED = (
    "UNPROVEN: the CPU kernels are not compiled; run: python -m apexbench.cpu_kernels.build"
)


@pytest.fixture
def compiled() -> Library:
    """The library; skips where there is none."""
    found = library()
    if found is None:
        pytest.skip(NOT_COMPILED)
    return found


@pytest.fixture(params=["compiled", FALLBACK])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What caches, jobs and pools made in this test compute with."""
    if request.param == FALLBACK:
        monkeypatch.setenv(VARIABLE, FALLBACK)
    elif not is_compiled():
        pytest.skip(NOT_COMPILED)
    return str(request.param)


@pytest.fixture
def geometry() -> KvGeometry:
    """Two layers of 24 blocks of 16 tokens, 2 KV heads of 32."""
    return KvGeometry(2, 24, 2, 32, 16, "fp16")


@pytest.fixture
def cache(backend: str, geometry: KvGeometry) -> Iterator[KvCache]:
    """An empty cache."""
    with KvCache(geometry) as made:
        yield made


@pytest.fixture
def pool(backend: str) -> Iterator[Pool]:
    """Two workers that share the machine with whatever else runs."""
    with Pool(2, is_pinned=False) as made:
        yield made
