"""torch as the peers need it: one thread, tensors on memory of ours; imported late."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError


def import_torch() -> Any:
    """torch on one thread; PeerUnavailableError where it is not installed."""
    torch = import_late("torch")
    torch.set_num_threads(1)
    return torch


def import_late(name: str) -> Any:
    """A module by name; PeerUnavailableError where it is not installed or cannot be loaded here."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise PeerUnavailableError(
            "not installed" if missing == name else f"needs {missing}"
        ) from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise PeerUnavailableError(f"cannot be loaded: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def tensor(torch: Any, case: PeerCase, elements: NDArray[Any]) -> Any:
    """A tensor of the case's dtype on the array's own memory."""
    found = torch.from_numpy(elements.view(np.int16))
    return found.view(torch.float16 if case.dtype == "fp16" else torch.bfloat16)


def to_numpy(tensor_of_floats: Any) -> NDArray[np.float32]:
    """float32 copy of any floating tensor."""
    array: NDArray[np.float32] = tensor_of_floats.float().numpy().copy()
    return array
