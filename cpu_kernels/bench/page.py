"""What a run found as Markdown tables, for the terminal and for docs/; computes no result."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from apexbench.cpu_kernels.bench.document import Findings, Row
from apexbench.errors import InputError
from apexbench.files import write_text_atomic

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
US_PER_S = 1e6
GIB = 1 << 30
HEADS_OF_GROUP = {1: "MHA"}

Column = tuple[str, Callable[[Row], str]]


def render(findings: Findings) -> str:
    """All sections that have something to show."""
    sections = (
        _circumstances(findings),
        _limits(findings),
        _section("Kernels", findings.rows, ROW_COLUMNS),
        _section("Comparisons, repeat by repeat", findings.comparisons, COMPARISON_COLUMNS),
        _section("Peers, one core", findings.peers, PEER_COLUMNS),
        _section("Small jobs", findings.small_jobs, SMALL_COLUMNS),
        _section("One long sequence among short ones", findings.mixes, MIX_COLUMNS),
        _section("Submit and join", findings.overheads, OVERHEAD_COLUMNS),
        "\n".join(f"**{warning}.**" for warning in findings.warnings()),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def write_into(path: Path, findings: Findings) -> None:
    """Replace what stands between the two marks of a Markdown file; InputError without them."""
    before, after = _around_marks(path)
    write_text_atomic(path, f"{before}{BEGIN}\n\n{render(findings)}\n{END}{after}")


def check_marks(path: Path) -> None:
    """InputError unless `write_into` could do its work: known before a long run, not after."""
    _around_marks(path)


def _around_marks(path: Path) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read '{path}': {reason}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"'{path}' has no marks {BEGIN} and {END} to write between")
    return before, after


def table(columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """A Markdown table, its columns padded so that it can be read as it is."""
    cells = [[name for name, _ in columns]]
    cells += [[cell(row) for _, cell in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _section(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> str:
    return f"### {title}\n\n{table(columns, rows)}" if rows else ""


def _circumstances(findings: Findings) -> str:
    """One line on machine and build."""
    found = findings.circumstances
    fractions = [row["huge_page_fraction"] for row in findings.rows]
    known = [fraction for fraction in fractions if fraction is not None]
    parts = [
        f"{found['cpu']}, {len(found['cpus_allowed'])} of {found['cpus_online']} CPUs",
        f"quota {_known(found['cgroup_quota_cpus'])}",
        f"governor {_known(found['governor'])}",
        f"huge pages at least {min(known):.0%} of KV" if known else "huge pages unknown",
        f"load before {found['load_average'][0]:.2f}",
        f"levels {', '.join(found['levels'])}; {found['compiler']}",
        f"scope {found['scope']}, {found['repeats']} repeats; KV bytes counted once, int8 with its"
        " fp16 scales",
    ]
    return "; ".join(parts) + "."


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _limits(findings: Findings) -> str:
    rows = [{"threads": threads} | found for threads, found in findings.read_limits.items()]
    return _section("Read limit", rows, LIMIT_COLUMNS)


def _reader(name: str) -> Column:
    return name, lambda row: f"{row['readers'][name]['gbps']:.1f}"


def _number(name: str, key: str, form: str = ".2f") -> Column:
    return name, lambda row: format(row[key], form) if row.get(key) is not None else ""


def _text(name: str, key: str) -> Column:
    return name, lambda row: str(row.get(key, ""))


def _us(name: str, get: Callable[[Row], float]) -> Column:
    return name, lambda row: f"{get(row) * US_PER_S:.1f}"


def _group(row: Row) -> str:
    return HEADS_OF_GROUP.get(row["gqa_group"], f"GQA-{row['gqa_group']}")


GROUP: Column = ("heads", _group)
BATCH: Column = ("rows x tokens", lambda row: f"{row['batch']} x {row['context']}")
THREADS = _text("threads", "threads")
BLOCK = _text("block", "block_size")
DTYPE = _text("KV", "kv_dtype")
RATE = (
    _number("GB/s", "gbps", ".1f"),
    _number("of limit", "ratio_to_read_limit"),
    _number("spread", "spread"),
)

LIMIT_COLUMNS = (
    THREADS,
    _number("limit GB/s", "gbps", ".1f"),
    _reader("plain"),
    _reader("prefetch"),
    _reader("numpy"),
    (
        "prefetch tuned to",
        lambda row: f"{row['prefetch_streams']} streams, {row['prefetch_distance_bytes']} B ahead",
    ),
)
ROW_COLUMNS = (
    GROUP,
    BLOCK,
    BATCH,
    DTYPE,
    _text("level", "isa"),
    THREADS,
    *RATE,
    _number("limit GB/s", "limit_gbps", ".1f"),
    ("paired", lambda row: "{lower:.2f}-{upper:.2f}".format(**row["paired_ratio"])),
    _number("tokens/s", "tokens_per_s", ".3g"),
    _text("preempted", "preempted_repeats"),
)
COMPARISON_COLUMNS = (
    ("tokens/s", lambda row: f"{row['candidate']} over {row['baseline']}"),
    GROUP,
    BLOCK,
    _text("level", "isa"),
    DTYPE,
    THREADS,
    _number("ratio", "ratio"),
    _number("spread", "spread"),
)
PEER_COLUMNS = (
    _text("who", "name"),
    GROUP,
    DTYPE,
    BLOCK,
    *RATE,
    _number("apexbench is faster by", "apexbench_speedup"),
    ("version", lambda row: row.get("unavailable") or row.get("version") or row.get("isa", "")),
)
SMALL_COLUMNS = (
    BATCH,
    BLOCK,
    THREADS,
    _us("us", lambda row: row["seconds"]["median"]),
    _us("inline us", lambda row: row["floor_seconds"]["median"]),
    _number("over inline", "ratio_to_floor"),
    _us("bytes at the limit, us", lambda row: row["bytes_floor_seconds"]),
    _number("over those", "ratio_to_bytes_floor"),
)
MIX_COLUMNS = (
    THREADS,
    ("mix", lambda row: f"1 x {row['long_context']} + {row['num_short']} x {row['short_context']}"),
    ("even", lambda row: f"{row['num_short'] + 1} x {row['even_context']}"),
    _us("mix us", lambda row: row["mixed_seconds"]),
    _us("even us", lambda row: row["even_seconds"]),
    _number("loss", "loss", ".1%"),
    _number("spread", "spread"),
)
OVERHEAD_COLUMNS = (
    _text("called from", "caller"),
    _text("workers", "workers"),
    THREADS,
    _us("median us", lambda row: row["seconds"]["median"]),
    _us("lower", lambda row: row["seconds"]["lower"]),
    _us("upper", lambda row: row["seconds"]["upper"]),
    _us("p99", lambda row: row["seconds_p99"]),
    _text("calls", "calls"),
)
