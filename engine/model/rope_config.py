"""How a config.json scales rotary positions, old and new spelling. Computes no frequencies.

Transformers 5 writes `rope_parameters` with the base inside; older files have `rope_theta` and
`rope_scaling`, whose kind is called `rope_type` or, older still, `type`.
"""

import math
from dataclasses import dataclass

from apexbench.engine.model.config_keys import ConfigKeys

ROPE_KINDS = ("default", "linear", "dynamic", "llama3", "yarn")
DEFAULT_THETA = 10_000.0
# What Transformers takes where a yarn config is silent, from the YaRN paper (arXiv 2309.00071).
_YARN_BETA_FAST = 32.0
_YARN_BETA_SLOW = 1.0
_YARN_MSCALE_SLOPE = 0.1


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """One scaling of rotary positions, lengths in tokens; what a kind ignores keeps its default.

    `attention_factor` multiplies sine and cosine alike, so scores grow by its square.
    """

    kind: str = "default"
    theta: float = DEFAULT_THETA
    factor: float = 1.0
    original_max_position: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = _YARN_BETA_FAST
    beta_slow: float = _YARN_BETA_SLOW
    truncate: bool = True
    attention_factor: float = 1.0

    def longest(self, max_position: int) -> int:
        """Tokens a sequence may have, for a model that states `max_position` tokens.

        llama3 configs state the scaled length, the others may state the one trained with; this is
        how vLLM reads them.
        """
        if self.kind == "yarn":
            return max(max_position, math.floor(self.original_max_position * self.factor))
        is_scaled = self.kind in ("linear", "dynamic")
        return math.floor(max_position * self.factor) if is_scaled else max_position


def read_rope(keys: ConfigKeys, max_position: int) -> RopeConfig:
    """The rope section of a config.json; InputError for a kind or number that is not supported."""
    _refuse_partial(keys)
    section = keys.inner("rope_parameters") or keys.inner("rope_scaling")
    if section is None:
        return RopeConfig(theta=_theta(keys, DEFAULT_THETA))
    _refuse_partial(section)
    kind, theta = _kind(section), _theta(section, _theta(keys, DEFAULT_THETA))
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind == "llama3":
        return _llama3(theta, section, _original_length(keys, section, max_position))
    if kind == "yarn":
        return _yarn(theta, section, _original_length(keys, section, max_position), max_position)
    return RopeConfig(kind, theta, section.positive("factor"), max_position)


def _theta(section: ConfigKeys, default: float) -> float:
    theta = section.positive("rope_theta", default)
    if theta <= 1:
        raise section.error(f"key 'rope_theta' is {theta}; expected a base above 1")
    return theta


def _kind(section: ConfigKeys) -> str:
    kind = section.data.get("rope_type", section.data.get("type", "default"))
    if any(isinstance(value, dict) for value in section.data.values()):
        raise section.error("positions scaled per kind of layer are not supported")
    if kind not in ROPE_KINDS:
        known = ", ".join(ROPE_KINDS)
        raise section.error(f"rope type {kind!r} is not supported; supported: {known}")
    return str(kind)


def _refuse_partial(section: ConfigKeys) -> None:
    if section.positive("partial_rotary_factor", 1.0) != 1.0:
        share = section.data["partial_rotary_factor"]
        raise section.error(f"partial_rotary_factor {share!r} is not supported; expected 1")


def _original_length(keys: ConfigKeys, section: ConfigKeys, max_position: int) -> int:
    """Length trained with; a value beside the section wins, as in Transformers."""
    name = "original_max_position_embeddings"
    return keys.integer(name, section.integer(name, max_position)) or max_position


def _llama3(theta: float, section: ConfigKeys, original: int) -> RopeConfig:
    low, high = section.positive("low_freq_factor"), section.positive("high_freq_factor")
    if high <= low:
        raise section.error(f"high_freq_factor {high} must be above low_freq_factor {low}")
    return RopeConfig(
        "llama3",
        theta,
        section.positive("factor"),
        original,
        low_freq_factor=low,
        high_freq_factor=high,
    )


def _yarn(theta: float, section: ConfigKeys, original: int, max_position: int) -> RopeConfig:
    factor = section.positive("factor", max_position / original)
    return RopeConfig(
        "yarn",
        theta,
        factor,
        original,
        beta_fast=section.optional("beta_fast") or _YARN_BETA_FAST,
        beta_slow=section.optional("beta_slow") or _YARN_BETA_SLOW,
        truncate=section.flag("truncate", default=True),
        attention_factor=_yarn_attention_factor(section, factor),
    )


def _yarn_attention_factor(section: ConfigKeys, factor: float) -> float:
    """The given factor, or the one of the YaRN paper, eq. 22, with DeepSeek's two slopes."""
    given = section.optional("attention_factor")
    if given is not None:
        return given
    slope, slope_all = section.optional("mscale"), section.optional("mscale_all_dim")
    if slope and slope_all:
        return _mscale(factor, slope) / _mscale(factor, slope_all)
    return _mscale(factor, 1.0)


def _mscale(factor: float, slope: float) -> float:
    return 1.0 if factor <= 1 else _YARN_MSCALE_SLOPE * slope * math.log(factor) + 1.0
