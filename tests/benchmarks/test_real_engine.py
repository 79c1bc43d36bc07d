"""Tokens per second of the real model on the CPU, beside transformers' generate() on the same work.

Measures; asserts nothing about time. Both use one thread, greedy decoding and no EOS.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from apexbench.engine.executors.cpu.sequences import random_prompt
from apexbench.engine.model.config import read_config
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.model.weights import load_weights
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.tiers import Pools
from apexbench.records import Request
from tests.checkpoints import read_reference, write_checkpoint
from tests.cpu_engine import speak

PROMPT, OUTPUT = 64, 32
POOLS = Pools(8 * (PROMPT + OUTPUT), 0, 16, 64)
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 704},
    "middle": {"hidden_size": 1024, "num_hidden_layers": 8, "intermediate_size": 2816},
}


@pytest.fixture(scope="module", params=SIZES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = SIZES[request.param]
    return write_checkpoint(
        tmp_path_factory.mktemp(request.param, numbered=False) / "m",
        "llama",
        **size,
        vocab_size=8000,
        num_attention_heads=size["hidden_size"] // 64,
        num_key_value_heads=size["hidden_size"] // 128,
        max_position_embeddings=512,
        initializer_range=0.05,
    )


@pytest.mark.parametrize("who", ["apexbench", "transformers"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_greedy_decoding(benchmark: Any, folder: Path, who: str, batch: int, dtype: str) -> None:
    torch.set_num_threads(1)
    benchmark.group = f"{folder.parent.name} {dtype}, batch {batch}: the ratio is in parentheses"
    requests = tuple(Request(i, 0, PROMPT, OUTPUT) for i in range(batch))
    prompts = [random_prompt(request, 8000, 0).token_ids for request in requests]
    if who == "apexbench":
        config = read_config(folder)
        decoder = Decoder(config, load_weights(folder, config, dtype))

        def run() -> int:
            spoken = speak(decoder, requests, pools=POOLS, scheduler_type=Scheduler)
            return sum(len(tokens) for tokens in spoken.tokens.values())
    else:
        model = read_reference(folder, {"fp32": "float32", "bf16": "bfloat16"}[dtype])

        def run() -> int:
            with torch.inference_mode():
                found = model.generate(
                    torch.tensor(prompts),
                    max_new_tokens=OUTPUT,
                    min_new_tokens=OUTPUT,
                    do_sample=False,
                    pad_token_id=0,
                )
            return int(found[:, PROMPT:].numel())

    tokens = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert tokens == batch * OUTPUT
    if benchmark.stats:  # not with --benchmark-disable
        benchmark.extra_info["tokens_per_s"] = tokens / benchmark.stats.stats.median
