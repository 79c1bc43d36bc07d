"""torch's flex_attention, compiled, on dense K and V."""

from typing import Any

from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.peers.torch_modules import (
    first_line,
    import_late,
    import_torch,
    tensor,
    to_numpy,
)
from apexbench.cpu_kernels.numbers import Float32


class TorchFlex:
    """Compiled once for the shape; needs a C++ compiler."""

    def __init__(self, case: PeerCase) -> None:
        self._torch = torch = import_torch()
        self.version = str(torch.__version__)
        flex = import_late("torch.nn.attention.flex_attention")
        torch.compiler.reset()
        self._attention = torch.compile(flex.flex_attention, dynamic=False)
        self._kv = tensor(torch, case, case.dense())
        self._q = tensor(torch, case, case.elements(case.q))[:, :, None]
        self._out: Any = None
        try:
            self.run(0)
        except Exception as error:  # a compiler's errors are of many kinds
            raise PeerUnavailableError(f"does not compile: {first_line(error)}") from error

    def run(self, region: int) -> None:
        """One call."""
        k, v = self._kv[region]
        with self._torch.inference_mode():
            self._out = self._attention(self._q, k, v, enable_gqa=self._q.shape[1] != k.shape[1])

    def output(self) -> Float32:
        """Of the last call."""
        return to_numpy(self._out[:, :, 0])
