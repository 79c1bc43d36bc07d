"""Peers are checked before they are timed, and named with a reason when they cannot run."""

from collections.abc import Callable

import numpy as np
import pytest

from apexbench.cpu_kernels.bench.peers import contest
from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.peers.paged import shuffled_paging
from apexbench.cpu_kernels.bench.peers.torch_modules import import_late
from apexbench.cpu_kernels.bench.scope import PeerDtype, Shape
from apexbench.cpu_kernels.numbers import Float32, widen
from apexbench.errors import UsageError

SHAPE = Shape(3, 32, 16, 4, 2, 16)


@pytest.fixture(params=["fp16", "bf16"])
def case(request: pytest.FixtureRequest) -> PeerCase:
    """Three rows of 32 tokens."""
    return PeerCase(SHAPE, request.param, lambda num_bytes: np.zeros(num_bytes, np.uint8))


class DensePeer:
    """Attention as the case's dense memory has it, row by row, head by head."""

    version = "1"

    def __init__(self, case: PeerCase, spoil: Callable[[Float32], Float32]) -> None:
        self.case = case
        self.spoil = spoil
        self.regions: list[int] = []

    def run(self, region: int) -> None:
        self.regions.append(region)

    def output(self) -> Float32:
        k, v = widen(self.case.dense()[self.regions[-1]], self.case.dtype)
        out = np.empty_like(self.case.q)
        for row, head in np.ndindex(out.shape[:2]):
            kv_head = head // self.case.shape.gqa_group
            scores = k[row, kv_head] @ self.case.q[row, head] / np.sqrt(16)
            weights = np.exp(scores)
            out[row, head] = weights @ v[row, kv_head] / weights.sum()
        return self.spoil(out)


def test_a_peer_that_computes_attention_is_accepted(
    case: PeerCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apexbench.cpu_kernels.bench.peers.case.ROTATION_BYTES", 1 << 16)
    case.check(DensePeer(case, lambda out: out))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: out[:, ::-1],  # heads in another order
        lambda out: out[::-1],  # rows
        lambda out: out * 1.1,
        lambda out: np.where(np.arange(16) == 3, np.nan, out),
    ],
)
def test_a_peer_that_computes_something_else_is_not_timed(
    case: PeerCase, spoil: Callable[[Float32], Float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apexbench.cpu_kernels.bench.peers.case.ROTATION_BYTES", 1 << 16)
    with pytest.raises(PeerUnavailableError, match="off by"):
        case.check(DensePeer(case, spoil))


@pytest.mark.parametrize(("rows", "regions"), [(16, 8), (64, 2), (256, 2)])
def test_a_case_has_as_many_regions_as_make_a_gib_and_two_at_least(rows: int, regions: int) -> None:
    shape = Shape(rows, 2048, 64, 32, 8)
    case = PeerCase(shape, "fp16", lambda num_bytes: np.zeros(num_bytes, np.uint8))
    assert case.kv_bytes == rows * 2048 * 8 * 128 * 2 * 2
    assert case.num_regions == regions


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_values_are_those_that_the_dtype_can_have(dtype: PeerDtype) -> None:
    case = PeerCase(SHAPE, dtype, lambda num_bytes: np.zeros(num_bytes, np.uint8))
    assert np.array_equal(widen(case.elements(case.k), dtype), case.k)


def test_pages_of_a_peer_are_shuffled_and_each_used_once(case: PeerCase) -> None:
    paging = shuffled_paging(case, 16)
    assert paging.table.shape == (3, 2)
    assert sorted(paging.table.ravel().tolist()) == list(range(6))
    assert paging.num_blocks == 6


def test_what_is_not_installed_says_so() -> None:
    with pytest.raises(PeerUnavailableError, match=r"^not installed$"):
        import_late("no_such_package_anywhere")


def test_a_peer_that_lacks_something_else_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ModuleNotFoundError("no", name="another")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(PeerUnavailableError, match=r"^needs another$"):
        import_late("some_package")


def test_every_peer_has_a_module_of_its_own_with_its_class() -> None:
    for module, kind in contest.PEERS.values():
        found = import_late(f"apexbench.cpu_kernels.bench.peers.{module}")
        assert callable(getattr(found, kind))
    assert set(contest.SLOW_PEERS) <= set(contest.PEERS)


def test_peers_are_chosen_by_a_part_of_their_name() -> None:
    assert contest.choose_peers(()) == list(contest.PEERS)
    assert contest.choose_peers(("ipex", "ONNX")) == [
        "onnxruntime GQA",
        "IPEX, block 128",
        "IPEX, block 16",
    ]
    with pytest.raises(UsageError, match="unknown peer 'tensorrt'"):
        contest.choose_peers(("ipex", "tensorrt"))
