"""Arrays of callers: what is accepted, and the one sentence for what is not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from apexbench.cpu_kernels.arrays import View, dtype_of, elements, integers, view
from apexbench.errors import UsageError

SHAPE = (3, 2, 16)


def halves() -> Any:
    return np.zeros(SHAPE, np.float16)


@dataclass
class Device:
    """torch.device."""

    type: str

    def __str__(self) -> str:
        return self.type


class Tensor:
    """What torch shows of a tensor: data_ptr(), stride() in elements, dtype and device."""

    def __init__(self, array: Any, dtype: str, device: str = "cpu") -> None:
        self.array = array
        self.dtype = dtype
        self.device = Device(device)
        self.shape = list(array.shape)

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def stride(self) -> tuple[int, ...]:
        return tuple(stride // self.array.itemsize for stride in self.array.strides)


def test_a_contiguous_array_is_its_address_and_its_row() -> None:
    array = halves()
    assert view("q", array, SHAPE, "fp16") == View(array.ctypes.data, 32)


def test_rows_may_lie_apart() -> None:
    whole = np.zeros((3, 5, 16), np.float16)
    assert view("q", whole[:, 1:3], SHAPE, "fp16") == View(whole.ctypes.data + 32, 80)


def test_a_tensor_is_known_by_its_pointer() -> None:
    array = np.zeros((3, 5, 16), np.uint16)[:, 1:3]
    tensor = Tensor(array, "torch.bfloat16")
    assert view("q", tensor, SHAPE, "bf16", is_written=True) == View(array.ctypes.data, 80)
    assert dtype_of("q", tensor) == "bf16"
    elements("q", tensor, "bf16")[1, 1, 3] = 7
    assert array[1, 1, 3] == 7


def test_uint16_is_taken_for_bf16_and_nothing_else() -> None:
    array = np.zeros(SHAPE, np.uint16)
    assert view("q", array, SHAPE, "bf16").address == array.ctypes.data
    with pytest.raises(UsageError, match="q has dtype uint16; expected fp16"):
        view("q", array, SHAPE, "fp16")


def read_only() -> Any:
    array = halves()
    array.flags.writeable = False
    return array


def misaligned() -> Any:
    size = int(np.prod(SHAPE)) * 2
    return np.zeros(size + 1, np.uint8)[1:].view(np.float16).reshape(SHAPE)


def interleaved() -> Any:
    """Elements of two bytes, five bytes apart."""
    record = np.zeros(SHAPE, np.dtype([("x", np.float16), ("y", np.uint8, (3,))]))
    return record["x"]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (halves()[:2], "out has shape (2, 2, 16); expected (3, 2, 16)"),
        (halves().astype(np.float64), "out has dtype float64; expected fp16"),
        (halves().astype(">f2"), "out has dtype float16 of the other byte order; expected fp16"),
        (read_only(), "out is read-only; the result is written into it"),
        (misaligned(), "out is not aligned to its elements; pass a copy of it"),
        (
            halves()[..., ::-1],
            "out is not contiguous within a row; pass a copy in C order",
        ),
        (interleaved(), "out is not contiguous within a row; pass a copy in C order"),
        (
            np.zeros((3, 16, 2), np.float16).transpose(0, 2, 1),
            "out is not contiguous within a row; pass a copy in C order",
        ),
        (halves()[::-1], "out has overlapping or reversed rows; pass a copy in C order"),
        (
            np.lib.stride_tricks.as_strided(halves(), SHAPE, (0, 32, 2)),
            "out has overlapping or reversed rows; pass a copy in C order",
        ),
        ([[0.0]], "out is of type list; expected a NumPy array or a tensor"),
        (
            Tensor(halves(), "torch.float16", "cuda:0"),
            "out is on device cuda:0; expected a tensor of the CPU",
        ),
        (Tensor(halves(), "torch.int16"), "out has dtype torch.int16; expected fp16"),
    ],
)
def test_what_cannot_be_written_to_is_refused(array: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        view("out", array, SHAPE, "fp16", is_written=True)
    assert str(caught.value) == sentence


def test_read_only_is_good_enough_to_read() -> None:
    array = read_only()
    assert view("q", array, SHAPE, "fp16").address == array.ctypes.data


def test_dtype_of_names_what_it_knows() -> None:
    assert dtype_of("q", halves()) == "fp16"
    with pytest.raises(UsageError, match="q has dtype int64; expected fp32, fp16 or bf16"):
        dtype_of("q", np.zeros(3, np.int64))


def test_int32_is_not_copied_and_others_are_converted() -> None:
    ids = np.zeros((2, 3), np.int32)
    assert integers("ids", ids, 2) is ids
    assert integers("ids", ids[:, ::2], 2).flags.c_contiguous
    for other in (ids.astype(np.uint64), ids.tolist(), ids.astype(">i4")):
        converted = integers("ids", other, 2)
        assert converted.dtype == np.int32
        assert converted.tolist() == ids.tolist()
    assert integers("lens", [], 1).shape == (0,)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros(3, np.int32), "ids has 1 dimensions; expected 2"),
        (np.zeros((1, 1)), "ids has dtype float64; expected whole numbers (int32)"),
        ([[1 << 31]], "ids has values beyond int32; expected ids and lengths of tokens"),
        ([[-(1 << 40)]], "ids has values beyond int32; expected ids and lengths of tokens"),
        ([[1], [1, 2]], "ids has rows of different lengths; pad them (block_table)"),
        (7, "ids is of type int; expected an array or a sequence"),
    ],
)
def test_what_are_no_ids_is_refused(values: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        integers("ids", values, 2)
    assert str(caught.value) == sentence
