"""Tensors of a model folder by name: one safetensors file or several with an index. Read only."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from safetensors import SafetensorError, safe_open
from torch import Tensor

from apexbench.errors import InputError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# safetensors' names of the dtypes a decoder's weights may be stored in, and their bytes
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


class Checkpoint:
    """Files stay mapped while this is open; tensors are views of them, valid until it closes."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a model folder; expected one with {SINGLE}")
        self._files = ExitStack()
        self._folder = folder
        self._shards: dict[Path, safe_open] = {}
        self._file_of = self._names()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shards.clear()
        self._files.close()

    def check(self, name: str, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor in its file; InputError unless it is there, of this shape and float."""
        path = self._path(name)
        try:
            found = self._open(path).get_slice(name)
        except SafetensorError as error:
            raise InputError(f"'{path}' has no tensor {name}, though it should") from error
        stored, dtype = tuple(found.get_shape()), found.get_dtype()
        if stored != shape:
            raise InputError(
                f"'{path}': tensor {name} has shape {list(stored)}; config.json says {list(shape)}"
            )
        if dtype not in _BYTES:
            raise InputError(f"'{path}': tensor {name} is {dtype}; expected {', '.join(_BYTES)}")
        size = _BYTES[dtype]
        for extent in shape:
            size *= extent
        return size

    def tensor(self, name: str) -> Tensor:
        """A tensor that `check` has seen, mapped from its file."""
        path = self._path(name)
        try:
            found: Tensor = self._open(path).get_tensor(name)
        except SafetensorError as error:
            raise InputError(f"'{path}': tensor {name} cannot be read: {error}") from error
        return found

    def _path(self, name: str) -> Path:
        if name not in self._file_of:
            raise InputError(f"model folder '{self._folder}' has no tensor {name}")
        return self._file_of[name]

    def _open(self, path: Path) -> safe_open:
        if path not in self._shards:
            self._shards[path] = self._files.enter_context(_opened(path))
        return self._shards[path]

    def _names(self) -> dict[str, Path]:
        """File of every tensor, from the index or from the only file."""
        index = self._folder / INDEX
        if index.exists():
            return {name: self._folder / file for name, file in _weight_map(index).items()}
        single = self._folder / SINGLE
        if not single.exists():
            raise InputError(f"model folder '{self._folder}' has neither {SINGLE} nor {INDEX}")
        return dict.fromkeys(self._open(single).keys(), single)


def _opened(path: Path) -> safe_open:
    if not path.exists():
        raise InputError(f"'{path}' is missing, though {INDEX} names it; download it again")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise InputError(
            f"'{path}' is no complete safetensors file ({error}); download it again"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise InputError(f"cannot read '{index}': {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{index}' is not an index of safetensors files") from error
    if not isinstance(weight_map, Mapping) or not all(
        isinstance(file, str) for file in weight_map.values()
    ):
        raise InputError(f"'{index}' is not an index of safetensors files")
    return weight_map
