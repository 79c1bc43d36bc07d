"""onnxruntime's GroupQueryAttention on dense K and V that it updates in place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.peers.torch_modules import first_line, import_late
from apexbench.cpu_kernels.numbers import Float32

DOMAIN, OPSET = "com.microsoft", 1
ONNX_OPSET, IR_VERSION = 17, 9


class OnnxruntimeGqa:
    """One token is appended in the call, as its last; past and present share their memory."""

    def __init__(self, case: PeerCase) -> None:
        if case.dtype != "fp16":
            raise PeerUnavailableError(f"has no {case.dtype} on CPUs")
        runtime = import_late("onnxruntime")
        self.version = str(runtime.__version__)
        self._shape = case.q.shape
        self._session = _session(runtime, import_late("onnx"), case)
        self._out = np.empty((case.shape.batch, 1, case.q[0].size), np.float16)
        self._small = _small_inputs(case)
        self._bindings = [self._bind(runtime, kv) for kv in case.dense()]

    def _bind(self, runtime: Any, kv: NDArray[Any]) -> Any:
        binding = self._session.io_binding()
        values = runtime.OrtValue.ortvalue_from_numpy
        for name, array in self._small.items():
            binding.bind_ortvalue_input(name, values(array))
        for name, array in zip(("key", "value"), kv, strict=True):
            _bind_memory(binding.bind_input, f"past_{name}", array)
            _bind_memory(binding.bind_output, f"present_{name}", array)
        _bind_memory(binding.bind_output, "output", self._out)
        return binding

    def run(self, region: int) -> None:
        """One call."""
        self._session.run_with_iobinding(self._bindings[region])

    def output(self) -> Float32:
        """Of the last call."""
        return self._out.astype(np.float32).reshape(self._shape)


def _bind_memory(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, np.float16, list(array.shape), array.ctypes.data)


def _small_inputs(case: PeerCase) -> dict[str, NDArray[Any]]:
    batch, context = case.shape.batch, case.shape.context
    last = [case.elements(np.repeat(x[None, -1:], batch, 0)) for x in (case.k, case.v)]
    return {
        "query": case.elements(case.q).reshape(batch, 1, -1),
        "key": last[0].reshape(batch, 1, -1),
        "value": last[1].reshape(batch, 1, -1),
        "seqlens_k": np.full(batch, context - 1, np.int32),
        "total_sequence_length": np.array(context, np.int32),
    }


def _session(runtime: Any, onnx: Any, case: PeerCase) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return runtime.InferenceSession(
            _model(onnx, case), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no base of their own
        raise PeerUnavailableError(f"refuses the graph: {first_line(error)}") from error


def _model(onnx: Any, case: PeerCase) -> bytes:
    """A graph of one node."""
    shape, helper = case.shape, onnx.helper
    kv = (shape.batch, shape.num_kv_heads, shape.context, shape.head_dim)
    token = (shape.batch, 1, shape.num_kv_heads * shape.head_dim)
    q = (shape.batch, 1, shape.num_q_heads * shape.head_dim)
    half, whole = onnx.TensorProto.FLOAT16, onnx.TensorProto.INT32
    inputs: dict[str, tuple[int, tuple[int, ...]]] = {
        "query": (half, q),
        "key": (half, token),
        "value": (half, token),
        "past_key": (half, kv),
        "past_value": (half, kv),
        "seqlens_k": (whole, (shape.batch,)),
        "total_sequence_length": (whole, ()),
    }
    outputs = {"output": (half, q), "present_key": (half, kv), "present_value": (half, kv)}
    heads = {"num_heads": shape.num_q_heads, "kv_num_heads": shape.num_kv_heads}
    node = helper.make_node(
        "GroupQueryAttention", list(inputs), list(outputs), domain=DOMAIN, **heads
    )
    described = [
        [helper.make_tensor_value_info(name, *found) for name, found in values.items()]
        for values in (inputs, outputs)
    ]
    graph = helper.make_graph([node], "attention", *described)
    opsets = [helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid(DOMAIN, OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    serialised: bytes = model.SerializeToString()
    return serialised
