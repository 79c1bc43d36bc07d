"""A tiny checkpoint with a tokenizer that knows every byte: enough to type at."""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tests.checkpoints import write_checkpoint

POSITIONS = 512
# Heads of 16: what the CPU kernels take.
SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "max_position_embeddings": POSITIONS,
    "eos_token_id": 299,
}


def write_speaking_model(path: Path, **overrides: Any) -> Path:
    """A Qwen3 folder with tokenizer.json; every text is as many tokens as bytes."""
    write_checkpoint(path, "qwen3", **{**SHAPE, **overrides})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = tokenizers.Tokenizer(
        models.BPE({letter: index for index, letter in enumerate(alphabet)}, [])
    )
    vocabulary.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary.decoder = decoders.ByteLevel()
    vocabulary.save(str(path / "tokenizer.json"))
    return path
