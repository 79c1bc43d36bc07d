"""Every sentence and clause of the page, formed from numbers that it is handed; computes none."""

from collections.abc import Callable, Sequence

from apexbench.compare.caveats import listed
from apexbench.paper.evidence import Estimate
from apexbench.reports.wording import MISSING, THIN, count, delta, number, percent, seconds, times

INSIDE = "inside"
OUTSIDE = "outside"
NOT_TESTABLE = "not testable"
EXPLORATORY = "exploratory"

ASSUMED_LENGTHS = "its lengths are assumed"
UNEQUAL = "the two did not serve the same requests"
PROMPTS_DISAGREE = "short and long prompts disagree, and the paper's are not known"
BANDS_OVERLAP = "the bands of the two largest overlap"
TOO_FEW = "fewer than two workloads with measured lengths"
UNSTEADY = "a run was too short to be steady"
NO_INTERVAL = "one seed has no interval"
ARITHMETIC = "arithmetic"


def gain(estimate: Estimate | None) -> str:
    """ "+85 % (+70 % to +99 %)"."""
    return _with_band(estimate, delta)


def ratio(estimate: Estimate | None) -> str:
    """As a factor, with the band of it in brackets."""
    return _with_band(estimate, times)


def share(estimate: Estimate | None) -> str:
    """ "8.0 % (5.7 % to 9.1 %)"."""
    return _with_band(estimate, percent)


def _with_band(estimate: Estimate | None, shown: Callable[[float], str]) -> str:
    if estimate is None:
        return MISSING
    value = shown(estimate.value)
    if estimate.low == estimate.high:
        return value
    return f"{value} ({shown(estimate.low)} to {shown(estimate.high)})"


def point(estimate: Estimate) -> str:
    """ "+85 %"."""
    return delta(estimate.value)


def span(values: Sequence[int]) -> str:
    """ "3 248", or "3 200 to 3 248"."""
    low, high = count(min(values)), count(max(values))
    return low if low == high else f"{low} to {high}"


def basis(estimates: Sequence[Estimate]) -> str:
    """What the brackets of a table are; "" for a table without estimates."""
    kinds = {estimate.basis for estimate in estimates}
    counts = {kind: _numbers({e.n for e in estimates if e.basis == kind}) for kind in kinds}
    sentences = {
        "draws": f"median and 80{THIN}% band over {{}} draws of the constants",
        "seeds": f"geometric mean and 95{THIN}% interval over {{}} seeds",
    }
    bracketed = [text.format(counts[k]) for k, text in sentences.items() if k in kinds]
    parts = [f"In brackets: {'; '.join(bracketed)}."] if bracketed else []
    return " ".join([*parts, *(["Without brackets: one run."] if "one run" in kinds else [])])


def _numbers(values: set[int]) -> str:
    return " or ".join(map(str, sorted(values)))


def side(estimate: Estimate, low: float) -> str:
    """Where it lies that is outside."""
    return "below" if estimate.high < low else "above"


def inside(*, is_median_inside: bool) -> str:
    """Why that counts as inside."""
    return "median and band" if is_median_inside else "only the band reaches it"


def cause(policy: str, strategies: Sequence[tuple[str, float]]) -> str:
    """What the policy did most of the time."""
    if not strategies:
        return f"{policy} took no step"
    name, part = strategies[0]
    return f"{policy} took {name} in {percent(part)} of its steps"


def beside(policy: str, estimate: Estimate | None) -> str:
    """What another policy gains over gpu-only on the same requests."""
    return f"{policy} has {delta(estimate.value if estimate else None)} over gpu-only"


def order(gains: Sequence[tuple[str, Estimate]]) -> str:
    """ "osc +85 %, azure-conv +60 %"."""
    return ", ".join(f"{name} {delta(estimate.value)}" for name, estimate in gains)


def largest(name: str) -> str:
    """Which one is largest."""
    return f"the largest is on {name}"


def upper_end(estimate: Estimate, limit: float) -> str:
    """How the upper end of an interval relates to its limit."""
    relation = "at most" if estimate.high <= limit else "above"
    return f"upper end {number(estimate.high)}, {relation} {limit:g}"


def sample(context: int, cpu_s: float, gpu_s: float, claimed_gpu_s: float) -> str:
    """What the profiles give at the context that the CPU time asks for."""
    return (
        f"{seconds(cpu_s)} against {seconds(gpu_s)} at {context} tokens per row, where the paper"
        f" has {seconds(claimed_gpu_s)}"
    )


def tally(inside_: int, outside: int, mixed: int, untestable: int) -> str:
    """Claims by verdict."""
    total = inside_ + outside + mixed + untestable
    return (
        f"Of {total} claims, {inside_} hold here, {outside} do not, {mixed} hold in some of their"
        f" cases only, and {untestable} cannot be tested by this simulator or with what is known"
        " of the paper's conditions."
    )


def mechanism(policy: str, cases: Sequence[tuple[str, Estimate, str]]) -> str:
    """Where a policy stands against the headline. Cases: workload, gain, verdict or side."""
    if not cases:
        return f"{policy} was not run"
    where = ", ".join(f"{place} on {name} with {gain(found)}" for name, found, place in cases)
    return f"{policy} is {where}"


def headline(text: str, value: str, literal: str, hits: int, total: int) -> str:
    """Whether the published rule gives the published figure."""
    if not total:
        return f"'{text}' ({value}) could not be tested."
    answer = f"Literal {literal} does"
    if hits == 0:
        answer = f"Literal {literal} does not"
    elif hits < total:
        answer = f"Literal {literal} does on {hits} of {total} workloads"
    return f"Which rule reproduces '{text}' ({value})? {answer}."


def profiling(workload: str, host: str, over_wrong: Estimate | None, best: str,
              over_best: Estimate | None) -> str:  # fmt: skip
    """What deciding with the right profile buys, beside the best rule that needs none."""
    return (
        f"{workload}: the right profile instead of {host}'s is worth {gain(over_wrong)};"
        f" over {best}, which needs none, apex has {gain(over_best)}."
    )


def frozen(num_files: int, commit: str | None, date: str | None) -> str:
    """Since when the inputs stand."""
    if commit is None:
        return f"by hash, {num_files} in number, in a version of the config that is not committed."
    return f"by hash, {num_files} in number, in commit {commit[:12]} of {date}."


def changed(names: Sequence[str]) -> str:
    """What is no longer as it was frozen."""
    if not names:
        return "None of the frozen files has changed since."
    verb = "has" if len(names) == 1 else "have"
    return f"Changed since: {listed(f'`{name}`' for name in names)} {verb} another hash now."


PREFACE = (
    "This page is generated. It holds what the APEX paper says against this simulator, with inputs"
    " that were committed before the first run against the paper's numbers. A claim is inside when"
    " our band overlaps the paper's range; outside is an acceptable result."
)
SETTING_UP = (
    "Everything below is simulated: real schedulers and block pools, durations from device"
    " profiles. gpu-only stands for vLLM, neo and apex follow their published rules to the letter,"
    " static:deferred is the paper's mechanism without its rule. GPU KV capacity decides more than"
    " any kernel, so it stands first."
)
LENGTHS = (
    "osc and azure-conv draw from quantile tables measured on the published traces, not from the"
    " traces row by row; of Azure's, it is the conversation trace of 2023, and which one the paper"
    " used is not known here. livebench and dolphin-r1 have assumed lengths: exploratory, never a"
    " verdict."
)
CAPACITY = (
    "The KV capacity of the GPU is stated instead of derived; everything else is the same. Gains"
    " are over gpu-only with the same number of tokens."
)
LOAD = (
    "Arrivals at multiples of gpu-only's saturation. Ratios over gpu-only of medians over all"
    " requests; below 1 is better."
)
BELIEFS = (
    "The literal rule decides with a profile. Here it decides once with the right one and once with"
    " that of the paper's other host, and is charged by the right one both times; the fixed"
    " strategies beside it choose no strategy at all."
)
OURS = (
    "Policies of this project, run apart from the others on the same requests; they enter no"
    " verdict above. The planner keeps the workload's latency targets, the policies it is held"
    " against here know none."
)
MEMORY = (
    "Memory sigma: one sigma of the GPU's usable memory as a share of gpu-only's KV tokens. Where"
    " the weights fill the card, draws of the constants move the KV capacity by that much, and with"
    " it every gain."
)
LIMITS = (
    "No hardware: nothing on this page was measured on a T4, an A10 or either host.",
    "The speed of the paper's CPU kernel is a constant inferred from the paper's own profile"
    " sample, with a wide sigma. It cannot confirm what was read off it.",
    "gpu-only is not vLLM: same idea, our scheduler, no Python overhead beyond the profile's.",
    "The paper published no code. Where its description leaves something open, such as how many"
    " cohorts there are or when rows enter, the reading is ours.",
    "Prompt lengths of the output bands, the load of the latency claims and the conditions of the"
    " ablation are not known here; what was tested instead stands beside each claim.",
    "Draws move the constants of the truth; they do not move the form of the cost model, and the"
    " formulas of the engine are not among the frozen files.",
    "Where rows stay on the host for long, a steady state takes more requests than were affordable:"
    " the last table counts the runs that are too short, the warnings below it name the draws.",
)
