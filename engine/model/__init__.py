"""Llama-like decoders in torch: config, weights, arithmetic, sampling. Knows no scheduler.

Modules that compute import torch; `config`, `rope_config`, `sampling_params`, `stopping` and
`tokenizer` do not.
"""
