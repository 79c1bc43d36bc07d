"""Seconds of each GPU op of a layer and of a step, on an otherwise idle GPU. No launch floors."""

from dataclasses import dataclass

from apexbench.engine.gemm import ACTIVATION_BYTES, Gemm, gemm
from apexbench.engine.hardware import GpuProfile
from apexbench.engine.models import ModelShape

# Small kernels around the projections: norm, rotary positions and KV store before attention; norm
# and the gated activation after it. Residual adds are fused into the norms.
PRE_KERNELS = 3
POST_KERNELS = 2
# A split of one sequence and KV head is the unit of work of split-KV decode attention, and at most
# this many tokens long. A batch smaller than one split per SM cannot use all of the bandwidth.
SPLIT_TOKENS = 256
# Sampling reads the logits about this often: cast to fp32, softmax, sort or top-k, draw.
_SAMPLING_PASSES = 4
_LOGIT_BYTES = 4


@dataclass(frozen=True, slots=True)
class GpuOps:
    """One model on one GPU. `rows` are tokens in the batch; all durations are per layer, seconds,
    unless a docstring says "per step".
    """

    gpu: GpuProfile
    model: ModelShape
    kv_bytes_per_token_layer: int
    projections: tuple[Gemm, Gemm, Gemm, Gemm]  # QKV, output, gate and up, down
    lm_head: Gemm

    def pre(self, rows: int) -> float:
        """Norm, QKV projection, rotary positions, KV store."""
        model = self.model
        norm = 4 * model.hidden_size  # read and write the input and the residual
        rotary = 2 * (model.q_size + model.kv_size)
        store = 4 * model.kv_size
        small = self._elementwise(PRE_KERNELS, rows * (norm + rotary + store))
        return self.projections[0].seconds(rows) + small

    def post(self, rows: int) -> float:
        """Output projection, norm, gated FFN."""
        gated = 3 * self.model.intermediate_size  # read gate and up, write their product
        small = self._elementwise(POST_KERNELS, rows * (4 * self.model.hidden_size + gated))
        return sum(projection.seconds(rows) for projection in self.projections[1:]) + small

    def decode_attention(self, kv_tokens: int) -> float:
        """Attention of decode rows whose contexts sum to `kv_tokens`; bound by reading KV."""
        fill = min(SPLIT_TOKENS, kv_tokens) * self.gpu.num_sms.value / self.model.num_kv_heads
        num_bytes = max(kv_tokens, fill) * self.kv_bytes_per_token_layer
        latency = self.gpu.decode_attention_latency_us.value * 1e-6
        return latency + num_bytes / self._kv_bytes_per_s

    def prefill_attention(self, new_tokens: int, context_tokens: int) -> float:
        """Causal attention of one chunk: 4·d·h flop per query and key, rising to its plateau.

        The share of the peak is ea·len/(len + len_half) with len the context after the chunk; the
        context must also be read once.
        """
        gpu, length = self.gpu, context_tokens + new_tokens
        pairs = new_tokens * context_tokens + new_tokens * (new_tokens + 1) / 2
        share = length / (length + gpu.prefill_attention_half_tokens.value)
        flops_per_s = gpu.prefill_attention_efficiency.value * share * gpu.peak_tflops.value * 1e12
        read = length * self.kv_bytes_per_token_layer / self._kv_bytes_per_s
        return max(4.0 * self.model.q_size * pairs / flops_per_s, read)

    @property
    def prefill_attention_latency(self) -> float:
        """Start of a prefill-attention launch, once for all chunks of a step."""
        return self.gpu.decode_attention_latency_us.value * 1e-6

    def head(self, rows: int) -> float:
        """Per step: final norm, LM head, sampling."""
        logits = _SAMPLING_PASSES * self.model.vocab_size * _LOGIT_BYTES / ACTIVATION_BYTES
        per_row = 4 * self.model.hidden_size + logits
        small = self._elementwise(1 + _SAMPLING_PASSES, rows * per_row)
        return self.lm_head.seconds(rows) + small

    def embed(self, rows: int) -> float:
        """Per step: gather of the embeddings."""
        return self._elementwise(1, rows * 2 * self.model.hidden_size)

    @property
    def _kv_bytes_per_s(self) -> float:
        return self.gpu.decode_attention_efficiency.value * self.gpu.dram_gb_per_s.value * 1e9

    def _elementwise(self, kernels: int, elements: float) -> float:
        """Streaming kernels over `elements` fp16 values: launches + bytes / (share · W)."""
        rate = self.gpu.elementwise_efficiency.value * self.gpu.dram_gb_per_s.value * 1e9
        latency = kernels * self.gpu.kernel_latency_us.value * 1e-6
        return latency + elements * ACTIVATION_BYTES / rate


def gpu_ops(gpu: GpuProfile, model: ModelShape, weight_dtype: str, kv_dtype: str) -> GpuOps:
    """The ops of `model` on `gpu`; the LM head stays fp16 whatever the weight dtype."""
    hidden, ffn = model.hidden_size, model.intermediate_size
    return GpuOps(
        gpu=gpu,
        model=model,
        kv_bytes_per_token_layer=model.kv_bytes_per_token_layer(kv_dtype),
        projections=(
            gemm(gpu, hidden, model.q_size + 2 * model.kv_size, weight_dtype),
            gemm(gpu, model.q_size, hidden, weight_dtype),
            gemm(gpu, hidden, 2 * ffn, weight_dtype),
            gemm(gpu, ffn, hidden, weight_dtype),
        ),
        lm_head=gemm(gpu, hidden, model.vocab_size, "fp16"),
    )
