"""Named traffic as quantile tables with their source; figures only, no trace is copied here."""

from dataclasses import dataclass

from apexbench.result import Slo
from apexbench.workloads.lengths import Marginals, Quantiles

# Chat users watch tokens appear, so both bounds are near reading speed and patience.
INTERACTIVE = Slo(ttft_s=2.0, tpot_s=0.2)
# Batch-like or long answers: nobody reads along, but a queue of minutes is still a failure.
RELAXED = Slo(ttft_s=5.0, tpot_s=0.4)
# Prompts of 12,000 tokens: 2 flop x 7e9 weights x 12,000 = 0.17 Pflop, seconds of prefill on a
# small GPU before anything queues. Once it speaks, somebody reads along.
LONG_PROMPT = Slo(ttft_s=30.0, tpot_s=0.2)

# Of measured traces. Dense at the top: the longest 1 % carries 4 % of Azure's prompt tokens.
_MEASURED = (
    0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65,
    0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 0.995, 0.999, 1,
)  # fmt: skip
# Denser still, for tails so long that a straight line from 95 % to 99 % would lift the mean by 7 %.
_MEASURED_TAIL = (
    0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.9975, 0.999, 0.9998, 1,
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

# Spearman rank correlation of prompt and output in the data: -0.02 (8,819 rows). Means 2047.8 in,
# 27.9 out; the table's outputs are 1.2 % longer on average.
AZURE_CODE = Preset(
    name="azure-code",
    citation=(
        "AzurePublicDataset, LLM inference trace 2023 (code, CC-BY-4.0), quantiles measured;"
        " Splitwise, ISCA'24"
    ),
    lengths=Marginals(
        prompt=Quantiles(
            _MEASURED_TAIL,
            (3, 17, 75, 147, 232, 386, 770, 1075, 1469, 1909, 2164, 2433, 2744, 3192,
             3920, 5188, 6097, 7303, 7430, 7435, 7436, 7436, 7436, 7436, 7437, 7437, 7437),
        ),
        output=Quantiles(
            _MEASURED_TAIL,
            (6, 6, 6, 7, 7, 8, 9, 11, 13, 16, 18, 20, 24, 29,
             39, 55, 69, 90, 105, 128, 171, 251, 359, 599, 825, 1019, 1899),
        ),
    ),
    default_slo=INTERACTIVE,  # a programmer waits for the completion
)  # fmt: skip

# Spearman rank correlation of prompt and output in the data: 0.07 (12,031 rows). Means 12035.1 in,
# 342.6 out. Conversations grow, so prompts share prefixes: the trace has their hashes, this not.
LONG_CONTEXT = Preset(
    name="long-context",
    citation=(
        "Mooncake FAST'25 trace release (conversation, kvcache-ai/Mooncake, Apache-2.0), quantiles"
        " measured; shared prefixes not modelled"
    ),
    lengths=Marginals(
        prompt=Quantiles(
            _MEASURED_TAIL,
            (891, 894, 901, 964, 1261, 1662, 3263, 4993, 6909, 9570, 11238, 13196, 15367, 17869,
             21464, 27367, 31519, 39550, 44613, 52215, 66449, 85400, 100810, 117789, 121301,
             123986, 126195),
        ),
        output=Quantiles(
            _MEASURED_TAIL,
            (1, 3, 10, 24, 46, 100, 213, 291, 350, 399, 423, 447, 472, 504,
             543, 597, 639, 698, 738, 800, 892, 1119, 1568, 1998, 2000, 2000, 2000),
        ),
    ),
    default_slo=LONG_PROMPT,  # answers wait for the prefill of a whole document
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

# Prompts: characters / 4 of the 1,118 questions of 13 of the 18 tasks that pull request 271 of
# LiveBench/LiveBench carries (commit 995e86f; mean 377). Outputs: only their mean is public. The
# dataset card of livebench/model_answer counts 159,113,809 bytes for 93,715 answers of many models,
# 1,698 each, of which about 100 are identifiers: 400 tokens at 4 bytes. The shape around it is
# assumed: from one word to pages, and the benchmark by default stops answers at 4,096 tokens.
LIVEBENCH = Preset(
    name="livebench",
    citation=(
        "LiveBench (arXiv 2406.19314): prompts from characters / 4 of 1,118 published questions,"
        " mean output from the size of livebench/model_answer, its shape assumed"
    ),
    lengths=Marginals(
        prompt=Quantiles(_ASSUMED, (22, 29, 50, 137, 372, 520, 666, 899, 1542, 2022)),
        output=Quantiles(_ASSUMED, (2, 10, 25, 110, 290, 520, 820, 1100, 1900, 4096)),
    ),
    default_slo=RELAXED,  # a benchmark run: nobody reads along
    is_approximated=True,
)

# Only sizes are public: dolphin-r1-reasoning-deepseek.jsonl has 3,848,509,571 bytes for 300,000
# samples, 12.8 kB of system prompt, question, reasoning and answer as JSON, so about 3,050 tokens
# at 4 bytes without quoting and keys. Assumed: 6 % of them prompt, and a log-normal shape that
# keeps that mean (185 in, 2,863 out) and ends at 16,000.
DOLPHIN_R1 = Preset(
    name="dolphin-r1",
    citation=(
        "Dolphin-R1 (cognitivecomputations/dolphin-r1, Apache-2.0): mean length of the DeepSeek-R1"
        " part from its file size (12.8 kB a sample), split and shape assumed"
    ),
    lengths=Marginals(
        prompt=Quantiles(_ASSUMED, (10, 20, 30, 55, 110, 210, 380, 560, 1100, 2000)),
        output=Quantiles(_ASSUMED, (150, 500, 700, 1150, 2050, 3600, 5800, 7600, 12000, 16000)),
    ),
    default_slo=RELAXED,  # the answer comes after the thinking
    is_approximated=True,
)

PRESETS = {
    preset.name: preset
    for preset in (
        OSC,
        AZURE_CONV,
        AZURE_CODE,
        CHAT,
        LIVEBENCH,
        REASONING,
        DOLPHIN_R1,
        LONG_CONTEXT,
    )
}
