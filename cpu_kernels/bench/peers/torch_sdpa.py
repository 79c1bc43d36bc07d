"""torch.nn.functional.scaled_dot_product_attention on dense K and V."""

from typing import Any, ClassVar

from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.peers.torch_modules import import_torch, tensor, to_numpy
from apexbench.cpu_kernels.numbers import Float32


class TorchSdpa:
    """Rows x heads; the query heads of a group come as enable_gqa wants them."""

    is_grouped: ClassVar[bool] = False

    def __init__(self, case: PeerCase) -> None:
        self._torch = torch = import_torch()
        self.version = str(torch.__version__)
        self._kv = tensor(torch, case, case.dense())
        q = tensor(torch, case, case.elements(case.q))
        heads = case.shape.num_kv_heads if self.is_grouped else case.shape.num_q_heads
        self._q = q.reshape(len(q), heads, -1, case.shape.head_dim)
        self._shape = case.q.shape
        self._out: Any = None

    def run(self, region: int) -> None:
        """One call."""
        k, v = self._kv[region]
        attention = self._torch.nn.functional.scaled_dot_product_attention
        with self._torch.inference_mode():
            self._out = attention(self._q, k, v, enable_gqa=self._q.shape[1] != k.shape[1])

    def output(self) -> Float32:
        """Of the last call."""
        return to_numpy(self._out).reshape(self._shape)


class TorchSdpaGrouped(TorchSdpa):
    """The query heads of a group as if they were queries: the same sums, each K read once."""

    is_grouped: ClassVar[bool] = True

    def __init__(self, case: PeerCase) -> None:
        if case.shape.gqa_group == 1:
            raise PeerUnavailableError("the same as torch SDPA where there are no groups")
        super().__init__(case)
