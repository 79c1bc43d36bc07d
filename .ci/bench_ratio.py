"""Runs the benchmarks here and at a base commit and prints the ratio of their times; gates nothing.

Both runs happen on this machine, one after the other; absolute times of machines do not compare.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".benchmarks"
BENCHMARKS = Path("tests") / "benchmarks"
# Shared machines swing this much without any change, so only more than this is pointed out.
NOTEWORTHY_RATIO = 1.25


def main() -> int:
    """0, or the exit code of pytest when the benchmarks of this tree fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, help="the commit to compare with")
    base = parser.parse_args().base
    WORK.mkdir(exist_ok=True)
    code = run_benchmarks(ROOT, WORK / "head.json")
    if code:
        return code
    tree = export(base)
    if tree is None or run_benchmarks(tree, WORK / "base.json"):
        say(f"no benchmarks to compare with at '{base}'")
        return 0
    compare(read_times(WORK / "base.json"), read_times(WORK / "head.json"))
    return 0


def run_benchmarks(tree: Path, report: Path) -> int:
    """Exit code of pytest in `tree`; the working directory comes first on its import path."""
    command = [sys.executable, "-m", "pytest", str(BENCHMARKS), "--benchmark-only", "-q"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        [*command, f"--benchmark-json={report}"], cwd=tree, env=environment, check=False
    )
    return done.returncode


def export(commit: str) -> Path | None:
    """The tree of `commit` as plain files, None where there is no such commit or no benchmarks."""
    tree = WORK / "base"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    git = ["git", "archive", commit]
    archive = subprocess.run(git, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    return tree if (tree / BENCHMARKS).is_dir() else None


def read_times(report: Path) -> dict[str, float]:
    """Benchmark -> fastest round in seconds, the figure that other load disturbs least."""
    benchmarks = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    return {item["fullname"]: item["stats"]["min"] for item in benchmarks}


def compare(base: dict[str, float], head: dict[str, float]) -> None:
    """Print one line per benchmark of this tree."""
    for name, seconds in sorted(head.items()):
        if name not in base:
            say(f"{name}: {seconds:.4g} s, new")
            continue
        ratio = seconds / base[name]
        mark = "  <- slower" if ratio > NOTEWORTHY_RATIO else ""
        say(f"{name}: {base[name]:.4g} s -> {seconds:.4g} s, ratio {ratio:.2f}{mark}")


def say(line: str) -> None:
    """One line of output, in order with what pytest prints."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
