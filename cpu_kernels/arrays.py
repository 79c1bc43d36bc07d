"""Arrays of callers, NumPy or torch, as addresses after checking them; copies and owns nothing.

torch is never imported: a tensor is known by its data_ptr(). bf16 in NumPy is a dtype named
bfloat16, or uint16 where bf16 is expected.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.geometry import ELEMENT_BYTES, ELEMENT_DTYPES, ElementDtype
from apexbench.errors import UsageError

# NumPy's dtypes are looked up as they are: in the other byte order they are found nowhere.
_NUMPY_DTYPES: dict[Any, str] = {
    np.dtype(np.float32): "fp32",
    np.dtype(np.float16): "fp16",
    np.dtype(np.uint16): "uint16",
}
# The stride of a row that is no whole number of elements: no check accepts it.
UNALIGNED = -1
_TORCH_DTYPES = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}


class View(NamedTuple):
    """Where an array lies: its address, and elements from one row to the next."""

    address: int
    row_stride: int


class _Layout(NamedTuple):
    """What NumPy and torch say in different words; strides in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    is_writeable: bool


def view(
    name: str,
    array: Any,
    shape: tuple[int, ...],
    dtype: ElementDtype,
    *,
    is_written: bool = False,
) -> View:
    """The array's address and row stride, once it has this shape and dtype.

    Rows may lie apart; within a row elements must be adjacent. is_written: it must be writeable.
    Raises UsageError in one sentence that begins with `name`.
    """
    if type(array) is np.ndarray and _is_plain(array, shape, dtype, is_written):
        item = ELEMENT_BYTES[dtype]
        return View(array.__array_interface__["data"][0], array.strides[0] // item)
    layout = _layout(name, array)
    if layout.shape != shape:
        raise UsageError(f"{name} has shape {layout.shape}; expected {shape}")
    if layout.dtype != dtype and not (dtype == "bf16" and layout.dtype == "uint16"):
        raise UsageError(f"{name} has dtype {layout.dtype}; expected {dtype}")
    if is_written and not layout.is_writeable:
        raise UsageError(f"{name} is read-only; the result is written into it")
    stride = _row_stride(name, shape, layout.strides)
    if layout.address % ELEMENT_BYTES[dtype]:
        raise UsageError(f"{name} is not aligned to its elements; pass a copy of it")
    return View(layout.address, stride)


def _is_plain(
    array: NDArray[Any], shape: tuple[int, ...], dtype: ElementDtype, is_written: bool
) -> bool:
    """The common case, checked in well under a microsecond; others go the long way."""
    flags = array.flags
    return (
        array.shape == shape
        and _NUMPY_DTYPES.get(array.dtype) == dtype
        and flags.c_contiguous
        and flags.aligned
        and (flags.writeable or not is_written)
    )


def dtype_of(name: str, array: Any) -> ElementDtype:
    """fp32, fp16 or bf16; uint16 counts as bf16. Raises UsageError for others."""
    found = _layout(name, array).dtype
    wanted = "bf16" if found == "uint16" else found
    for dtype in ELEMENT_DTYPES:
        if dtype == wanted:
            return dtype
    raise UsageError(f"{name} has dtype {found}; expected fp32, fp16 or bf16")


def integers(name: str, values: Any, num_dimensions: int) -> NDArray[np.int32]:
    """int32, C-contiguous: a view where possible, else a copy of whole numbers that fit.

    values: an array, a CPU tensor or nested sequences. Raises UsageError.
    """
    array = values if isinstance(values, np.ndarray) else _as_array(name, values)
    if array.ndim != num_dimensions:
        raise UsageError(f"{name} has {array.ndim} dimensions; expected {num_dimensions}")
    if array.dtype == np.int32:
        return np.ascontiguousarray(array)
    if array.size == 0:
        return np.zeros(array.shape, np.int32)
    if array.dtype.kind not in "iu":
        raise UsageError(f"{name} has dtype {array.dtype}; expected whole numbers (int32)")
    limits = np.iinfo(np.int32)
    if array.min() < limits.min or array.max() > limits.max:
        raise UsageError(f"{name} has values beyond int32; expected ids and lengths of tokens")
    return np.ascontiguousarray(array, np.int32)


class _Pointed:
    """Memory of somebody else as NumPy's array interface describes it."""

    def __init__(self, layout: _Layout, typestr: str, item_bytes: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (layout.address, False),
            "shape": layout.shape,
            "strides": tuple(stride * item_bytes for stride in layout.strides),
            "typestr": typestr,
        }


def elements(name: str, array: Any, dtype: ElementDtype) -> NDArray[Any]:
    """A checked array's own memory as float32, float16 or, for bf16, uint16; `array` must live."""
    typestr = {"fp32": "=f4", "fp16": "=f2", "bf16": "=u2"}[dtype]
    return np.asarray(_Pointed(_layout(name, array), typestr, ELEMENT_BYTES[dtype]))


def _as_array(name: str, values: Any) -> NDArray[Any]:
    if hasattr(values, "data_ptr"):
        _layout(name, values)
        return np.asarray(values.detach())
    if not isinstance(values, Sequence):
        raise UsageError(
            f"{name} is of type {type(values).__name__}; expected an array or a sequence"
        )
    try:
        return np.asarray(values, np.int64 if len(values) == 0 else None)
    except ValueError as error:
        raise UsageError(f"{name} has rows of different lengths; pad them (block_table)") from error


def _layout(name: str, array: Any) -> _Layout:
    if isinstance(array, np.ndarray):
        item = array.dtype.itemsize
        dtype = _NUMPY_DTYPES.get(array.dtype) or _numpy_name(array)
        strides = tuple([s // item if s % item == 0 else UNALIGNED for s in array.strides])
        address = array.__array_interface__["data"][0]
        return _Layout(address, array.shape, strides, dtype, array.flags.writeable)
    if not hasattr(array, "data_ptr"):
        raise UsageError(
            f"{name} is of type {type(array).__name__}; expected a NumPy array or a tensor"
        )
    if array.device.type != "cpu":
        raise UsageError(f"{name} is on device {array.device}; expected a tensor of the CPU")
    dtype = str(array.dtype)
    return _Layout(
        array.data_ptr(),
        tuple(array.shape),
        tuple(array.stride()),
        _TORCH_DTYPES.get(dtype, dtype),
        is_writeable=True,
    )


def _numpy_name(array: NDArray[Any]) -> str:
    name = array.dtype.name
    if name == "bfloat16":
        return "bf16"
    return name if array.dtype.isnative else f"{name} of the other byte order"


def _row_stride(name: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements from one row to the next; UsageError unless a row's own elements are adjacent."""
    row_elements = 1
    for size, stride in zip(shape[:0:-1], strides[:0:-1], strict=True):
        if stride != row_elements and size > 1 and shape[0]:
            raise UsageError(f"{name} is not contiguous within a row; pass a copy in C order")
        row_elements *= size
    if shape[0] <= 1:
        return row_elements
    if strides[0] < row_elements:
        raise UsageError(f"{name} has overlapping or reversed rows; pass a copy in C order")
    return strides[0]
