"""`apexbench compare`: which policy for this GPU, host, model and traffic."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.cli.exits import ExitCode
from apexbench.cli.interrupts import StopRequest, at_once, deferred
from apexbench.cli.options import (
    ConfigFile,
    CpuKernel,
    CpuKvDtype,
    CpuKvTokens,
    CpuThreads,
    Dtype,
    Gpu,
    GpuKvTokens,
    GpuMemoryUtilization,
    GpuThreads,
    Host,
    KvDtype,
    Model,
    Text,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from apexbench.compare.comparison import Comparison
    from apexbench.config import CompareConfig
    from apexbench.result import Result

STDOUT = "-"
RESULT_FILE = "result.json"

Texts = list[str] | None


def compare(
    gpu: Gpu = None,
    host: Host = None,
    model: Model = None,
    workload: Annotated[
        Text, typer.Option(help="Preset, fixed:IN/OUT, trace:PATH … (see: list workloads).")
    ] = None,
    policies: Annotated[
        Texts, typer.Option(help="Policies, comma-separated; POLICY+int4 for other weights.")
    ] = None,
    rate: Annotated[
        Texts, typer.Option(help="Requests/s, 'inf', or multiples of saturation such as 0.8x.")
    ] = None,
    requests: Annotated[Text, typer.Option(help="Requests per run.")] = None,
    duration: Annotated[Text, typer.Option(help="Seconds of arrivals per run.")] = None,
    seeds: Annotated[Text, typer.Option(help="How many seeds (default 3).")] = None,
    seed: Annotated[Text, typer.Option(help="The first seed (default 0).")] = None,
    slo: Annotated[
        Texts, typer.Option(help="Target such as ttft=2 or tpot=0.2, seconds; repeatable.")
    ] = None,
    backend: Annotated[
        Text, typer.Option(metavar="sim|emulated|cpu", help="Where it runs (default sim).")
    ] = None,
    gpu_kv_tokens: GpuKvTokens = None,
    cpu_kv_tokens: CpuKvTokens = None,
    kv_dtype: KvDtype = None,
    cpu_kv_dtype: CpuKvDtype = None,
    gpu_memory_utilization: GpuMemoryUtilization = None,
    max_context: Annotated[
        Text, typer.Option(metavar="N[:drop|clip]", help="Longest request in tokens.")
    ] = None,
    cpu_kernel: CpuKernel = None,
    cpu_threads: CpuThreads = None,
    gpu_threads: GpuThreads = None,
    weights: Weights = None,
    dtype: Dtype = None,
    set_: Annotated[
        Texts, typer.Option("--set", metavar="NAME=VALUE", help="Scheduler threshold; repeatable.")
    ] = None,
    draws: Annotated[
        Text, typer.Option(metavar="N", help="Repeat saturation under N draws of the constants.")
    ] = None,
    tornado: Annotated[
        bool, typer.Option("--tornado", help="Move each constant by one sigma, both ways.")
    ] = False,
    sweep: Annotated[
        Texts,
        typer.Option(
            metavar="NAME=V,V,…", help="Saturation over values, such as gpu_kv_tokens=864,2000."
        ),
    ] = None,
    jobs: Annotated[Text, typer.Option(help="Parallel processes; results do not change.")] = None,
    config: ConfigFile = None,
    out: Annotated[Text, typer.Option(metavar="DIR", help="Directory for everything.")] = None,
    json: Annotated[Text, typer.Option(metavar="PATH|-", help="The result document.")] = None,
    html: Annotated[Text, typer.Option(metavar="PATH", help="The report.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the verdict only.")] = False,
) -> int:
    """Compare policies; writes result.json and report.html.

    On simulated hardware; with --backend emulated on real threads and CPU attention beside a GPU
    that takes modelled time; with --backend cpu on a real model, torch being the GPU. Without
    --gpu, --model and --workload the simulator runs T4 and A10 with three workloads.
    """
    options = dict(locals())
    file = options.pop("config")
    options["thresholds"] = options.pop("set_")
    with at_once():
        resolved = _resolve(options, file)
        return _Session(resolved, is_out_given=_is_out_given(resolved)).run()


def _resolve(options: dict[str, object], file: Path | None) -> "CompareConfig":
    from apexbench import config
    from apexbench.compare.scenarios import preset_values

    found = config.locate(file, os.environ, Path.cwd())
    return config.resolve(options, os.environ, found, preset_values)


def _is_out_given(config: "CompareConfig") -> bool:
    """--json or --html alone ask for that file alone; otherwise the whole directory is written."""
    wants_single_file = config.json_path is not None or config.html_path is not None
    return config.provenance.get("out", "default") != "default" or not wants_single_file


class _Session:
    """One call of the command: prepare, run with progress, write, print."""

    def __init__(self, config: "CompareConfig", *, is_out_given: bool) -> None:
        from rich.console import Console

        self._config = config
        self._out = config.out if is_out_given else None
        # With the document on stdout, everything for people goes to stderr.
        self._console = Console(stderr=config.json_path == STDOUT, highlight=False)
        self._errors = Console(stderr=True, highlight=False)

    def run(self) -> int:
        """The exit code."""
        from apexbench.compare.comparison import Comparison

        self._check_targets()
        comparison = Comparison.prepare(self._config)
        started = time.perf_counter()
        with deferred() as stop:
            self._run_with_progress(comparison, stop)
            if not comparison.results:
                return self._nothing(comparison)
            result = comparison.document(wall_s=time.perf_counter() - started)
            unwritten = self._write(result, comparison)
        self._print(result, is_written=not unwritten)
        self._complain([*_ending(comparison), *unwritten])
        return ExitCode.INPUT if unwritten else self._exit_code(comparison)

    def _check_targets(self) -> None:
        """Before anything runs: there is somewhere to put what it finds."""
        from apexbench.files import check_target, ensure_writable_dir

        if self._out is not None:
            ensure_writable_dir(self._out)
        for path in (self._config.json_path, self._config.html_path):
            if path is not None and path != STDOUT:
                check_target(Path(path))

    def _run_with_progress(self, comparison: "Comparison", stop: StopRequest) -> None:
        from apexbench.cli.progress import Bars

        is_shown = sys.stderr.isatty() and not self._config.quiet
        with Bars(self._errors, is_shown=is_shown) as bars:
            comparison.run(stop.watching(bars.phase))

    def _nothing(self, comparison: "Comparison") -> int:
        self._complain(comparison.failures)
        if comparison.is_interrupted:
            self._complain(["interrupted before any run had ended; nothing written"])
        return self._exit_code(comparison)

    def _complain(self, sentences: "Sequence[str]") -> None:
        for sentence in sentences:
            self._errors.print(f"apexbench: {sentence}", markup=False, soft_wrap=True)

    def _write(self, result: "Result", comparison: "Comparison") -> list[str]:
        """Everything that can be written; a sentence for each thing that cannot."""
        from apexbench.errors import InputError

        unwritten = []
        for write in (self._write_all, self._write_json, self._write_html):
            try:
                write(result, comparison)
            except InputError as error:
                unwritten.append(str(error))
        return unwritten

    def _write_json(self, result: "Result", _: "Comparison") -> None:
        from apexbench.files import write_text_atomic
        from apexbench.result import to_json

        if self._config.json_path == STDOUT:
            typer.echo(to_json(result), nl=False)
        elif self._config.json_path is not None:
            write_text_atomic(Path(self._config.json_path), to_json(result))

    def _write_html(self, result: "Result", _: "Comparison") -> None:
        if self._config.html_path is not None:
            from apexbench.files import write_text_atomic
            from apexbench.reports import html

            write_text_atomic(Path(self._config.html_path), html.render(result))

    def _write_all(self, result: "Result", comparison: "Comparison") -> None:
        if self._out is not None:
            from apexbench.compare.outputs import write_all

            write_all(self._out, result, comparison.request_table())

    def _print(self, result: "Result", *, is_written: bool) -> None:
        from apexbench.compare.advice import next_command
        from apexbench.reports import terminal, verdicts

        console = self._console
        if self._config.quiet:
            for verdict in verdicts.verdicts(result):
                console.print(verdict.sentence, markup=False, soft_wrap=True)
        else:
            terminal.render(result, console)
            self._print_files(console, is_written=is_written)
        console.print(f"next: {next_command(result)}", markup=False, soft_wrap=True)

    def _print_files(self, console: "Console", *, is_written: bool) -> None:
        if self._out is None or not is_written:
            return
        out = self._out
        console.print(
            f"wrote {out / 'report.html'}, {out / RESULT_FILE}, {out / 'requests.parquet'},"
            f" {out / 'summary.md'}, {out / 'trace.json'}",
            markup=False,
            soft_wrap=True,
        )

    def _exit_code(self, comparison: "Comparison") -> int:
        if comparison.is_interrupted:
            return ExitCode.INTERRUPTED
        has_failed = comparison.failures or not comparison.is_trustworthy
        return ExitCode.RUN_FAILED if has_failed else ExitCode.OK


def _ending(comparison: "Comparison") -> list[str]:
    """Why the comparison is not complete or not to be published, if it is not."""
    sentences = list(comparison.failures)
    if not comparison.is_trustworthy:
        sentences.append("the machine was too busy; the result is written, its verdicts withheld")
    if comparison.is_interrupted:
        sentences.append("interrupted; the result holds the runs that had ended")
    return sentences
