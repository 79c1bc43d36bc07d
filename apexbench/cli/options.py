"""Options of the deployment that several commands take: one name, one help text."""

from pathlib import Path
from typing import Annotated

import typer

Text = str | None  # numbers too: the configuration checks them, with all other sources at once

Gpu = Annotated[Text, typer.Option(help="GPU profile, or a .toml file.")]
Host = Annotated[Text, typer.Option(help="Host profile; default: the GPU's usual one.")]
Model = Annotated[Text, typer.Option(help="Model, or a Hugging Face config.json.")]
Weights = Annotated[
    Text, typer.Option(help="Of a modelled GPU: fp16, int8 or int4. Of a real model: auto, dummy.")
]
CpuKernel = Annotated[
    Text, typer.Option(help="CPU attention kernel: paper, ispc, apexbench or measured.")
]
CpuThreads = Annotated[Text, typer.Option(help="Threads of CPU attention (default: cores - 1).")]
GpuThreads = Annotated[
    Text, typer.Option(help="Threads of torch, where it is the GPU (default 1).")
]
CpuKvTokens = Annotated[
    Text, typer.Option(help="KV tokens on the host (default: what its memory holds).")
]
KvDtype = Annotated[Text, typer.Option(help="KV on the GPU: fp16 or bf16.")]
CpuKvDtype = Annotated[
    Text, typer.Option(help="KV on the host: fp16, bf16, fp32 or int8 (default: as on the GPU).")
]
Dtype = Annotated[
    Text, typer.Option(help="Of a real model: fp32, bf16 or fp16 (default: the checkpoint's).")
]
GpuKvTokens = Annotated[
    Text, typer.Option(help="KV tokens on the GPU instead of the capacity model's.")
]
GpuMemoryUtilization = Annotated[
    Text, typer.Option(help="Share of GPU memory to use (default 0.95).")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="TOML file (default: apexbench.toml if present).")
]
