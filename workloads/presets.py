"""Named traffic as quantile tables with their source; figures only, no trace is copied here."""

from dataclasses import dataclass

from apexbench.result import Slo
from apexbench.workloads.lengths import Marginals, Quantiles

# Chat users watch tokens appear, so both bounds are near reading speed and patience.
INTERACTIVE = Slo(ttft_s=2.0, tpot_s=0.2)
# Batch-like or long answers: nobody reads along, but a queue of minutes is still a failure.
RELAXED = Slo(ttft_s=5.0, tpot_s=0.4)

# Of measured traces. Dense at the top: the longest 1 % carries 4 % of Azure's prompt tokens.
_MEASURED = (
    0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65,
    0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 0.995, 0.999, 1,
)  # fmt: skip
_ASSUMED = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)


@dataclass(frozen=True, slots=True)
class Preset:
    """Length statistics under a name. `is_approximated`: assumed, not measured."""

    name: str
    citation: str
    lengths: Marginals
    default_slo: Slo
    is_approximated: bool = False


# Spearman rank correlation of prompt and output in the data: 0.11 (2,000 rows). The preset draws
# them independently; means 372.5 in, 45.3 out.
OSC = Preset(
    name="osc",
    citation=(
        "OpenAI summarize-comparisons lengths, quantiles measured from NEO-MLSys25/NEO (Apache-2.0)"
    ),
    lengths=Marginals(
        prompt=Quantiles(
            _MEASURED,
            (29, 174, 201, 233, 255, 275, 307, 339, 371, 407, 425,
             441, 459, 475, 493, 514, 536, 555, 559, 567, 589),
        ),
        output=Quantiles(
            _MEASURED,
            (15, 25, 33, 35, 37, 38, 40, 43, 45, 47, 49,
             50, 51, 53, 54, 56, 59, 65, 73, 92, 129),
        ),
    ),
    default_slo=RELAXED,  # summaries are short and read as a whole
)  # fmt: skip

# Spearman rank correlation of prompt and output in the data: 0.07 (19,366 rows). Means 1154.7 in,
# 211.1 out.
AZURE_CONV = Preset(
    name="azure-conv",
    citation=(
        "AzurePublicDataset, LLM inference trace 2023 (conversation, CC-BY-4.0), quantiles"
        " measured; Splitwise, ISCA'24"
    ),
    lengths=Marginals(
        prompt=Quantiles(
            _MEASURED,
            (2, 29, 181, 207, 372, 387, 403, 703, 1020, 1071, 1097,
             1130, 1189, 1315, 1876, 2734, 4083, 4142, 4831, 6179, 14050),
        ),
        output=Quantiles(
            _MEASURED,
            (7, 16, 41, 54, 67, 77, 91, 103, 129, 177, 217,
             384, 395, 400, 411, 424, 451, 601, 643, 954, 1000),
        ),
    ),
    default_slo=INTERACTIVE,  # a production chat service
)  # fmt: skip

CHAT = Preset(
    name="chat",
    citation="ShareGPT-like chat, assumed shape (short skewed prompts, answers of a few hundred)",
    lengths=Marginals(
        prompt=Quantiles(_ASSUMED, (4, 8, 13, 28, 70, 170, 380, 620, 1000, 1024)),
        output=Quantiles(_ASSUMED, (2, 70, 95, 150, 260, 440, 710, 950, 1600, 2048)),
    ),
    default_slo=INTERACTIVE,  # people read along
    is_approximated=True,
)

# The longest request stays below 4096 tokens, so models with a short context serve all of them.
REASONING = Preset(
    name="reasoning",
    citation="short question, long chain of thought (about 1-4k tokens), assumed shape",
    lengths=Marginals(
        prompt=Quantiles(_ASSUMED, (24, 37, 47, 70, 110, 170, 260, 330, 440, 480)),
        output=Quantiles(_ASSUMED, (500, 900, 1100, 1400, 1800, 2300, 2900, 3300, 3550, 3600)),
    ),
    default_slo=RELAXED,  # the answer comes after the thinking, not word by word
    is_approximated=True,
)

PRESETS = {preset.name: preset for preset in (OSC, AZURE_CONV, CHAT, REASONING)}
