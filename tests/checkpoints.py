"""Small random checkpoints of every supported family, written by transformers itself.

    write_checkpoint(tmp_path / "m", "qwen3", rope_parameters={"rope_type": "default", ...})

Weights are wide (initializer_range 0.3), so that greedy decoding does not settle on one token and
the best two logits lie well apart.
"""

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
SMALL: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What families do not share: Mistral has no window unless a test asks for it, heads of Qwen3 are
# wider than hidden_size / heads.
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
}
# Every rope type; lengths are such that 40 tokens already reach what is scaled.
ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 1.7},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


def transformers() -> ModuleType:
    """The library, imported without its warnings becoming errors of the importing test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers as library

        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return library


def write_checkpoint(
    path: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    **overrides: Any,
) -> Path:
    """A checkpoint folder at `path`; overrides are keys of the family's config.

    Biases and norms are random as well, or a test could not tell that they are read.
    """
    import torch

    library = transformers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = library.AutoConfig.for_model(family, **{**SMALL, **OWN[family], **overrides})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = library.AutoModelForCausalLM.from_config(config)
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    torch.nn.init.normal_(parameter, float("norm" in name), 0.2)
        model.to(getattr(torch, dtype)).save_pretrained(path, max_shard_size=max_shard_size)
    return path


def read_reference(path: Path, dtype: str = "float32") -> Any:
    """The same checkpoint as transformers reads it, with its plain attention."""
    library = transformers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = library.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager"
        )
        return model.eval()
