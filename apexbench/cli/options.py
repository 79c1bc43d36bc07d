"""Options of the deployment that several commands take: one name, one help text."""

from pathlib import Path
from typing import Annotated

import typer

Text = str | None  # numbers too: the configuration checks them, with all other sources at once

Gpu = Annotated[Text, typer.Option(help="GPU profile, or a .toml file.")]
Host = Annotated[Text, typer.Option(help="Host profile; default: the GPU's usual one.")]
Model = Annotated[Text, typer.Option(help="Model, or a Hugging Face config.json.")]
Weights = Annotated[Text, typer.Option(help="fp16, int8 or int4.")]
CpuKernel = Annotated[Text, typer.Option(help="CPU attention kernel: paper, ispc or apexbench.")]
CpuThreads = Annotated[Text, typer.Option(help="CPU threads (default: cores - 1).")]
GpuKvTokens = Annotated[
    Text, typer.Option(help="KV tokens on the GPU instead of the capacity model's.")
]
GpuMemoryUtilization = Annotated[
    Text, typer.Option(help="Share of GPU memory to use (default 0.95).")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="TOML file (default: apexbench.toml if present).")
]
