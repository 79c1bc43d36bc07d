"""`apexbench generate`: text from a real model, by the same scheduler and policies as `compare`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.cli.exits import ExitCode
from apexbench.cli.interrupts import StopRequest, at_once, deferred
from apexbench.cli.options import (
    ConfigFile,
    CpuKvDtype,
    CpuKvTokens,
    CpuThreads,
    Dtype,
    GpuKvTokens,
    GpuThreads,
    Model,
    Text,
    Weights,
)

if TYPE_CHECKING:
    from apexbench.cli.generation import Job, Loaded, Outcome

STDOUT = "-"
Texts = list[str] | None


def generate(
    model: Model = None,
    prompt: Annotated[Texts, typer.Option(help="A prompt; repeatable.")] = None,
    prompt_ids: Annotated[
        Texts, typer.Option(metavar="ID,ID,…", help="A prompt as token ids; repeatable.")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="A file with one prompt per line; '-' is standard input.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens per prompt at most (default 128).")
    ] = None,
    policies: Annotated[
        str, typer.Option(help="The policy that places work (see: list policies).")
    ] = "apex",
    temperature: Annotated[float, typer.Option(help="0 takes the best token.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Only the best K tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the best tokens of this share; 1: all.")] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Only tokens of this share of the best one's; 0: all.")
    ] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="1: none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws; equal seeds give equal text.")] = 0,
    stop: Annotated[Texts, typer.Option(help="Text that ends an answer; repeatable.")] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the model's end token.")
    ] = False,
    logprobs: Annotated[
        int | None, typer.Option(help="Log probabilities of the best N tokens, in --json.")
    ] = None,
    gpu_kv_tokens: GpuKvTokens = None,
    cpu_kv_tokens: CpuKvTokens = None,
    cpu_kv_dtype: CpuKvDtype = None,
    cpu_threads: CpuThreads = None,
    gpu_threads: GpuThreads = None,
    weights: Weights = None,
    dtype: Dtype = None,
    set_: Annotated[
        Texts, typer.Option("--set", metavar="NAME=VALUE", help="Scheduler threshold; repeatable.")
    ] = None,
    config: ConfigFile = None,
    json: Annotated[Text, typer.Option(metavar="PATH|-", help="Answers and figures.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Text only, no summary.")] = False,
) -> int:
    """Generate text with torch as the GPU and the CPU kernels beside it.

    KV beyond --gpu-kv-tokens goes to the host, as the policy says; without that limit all of it
    fits and the policy has nothing to place. Answers stream to standard output, one after the other
    in the order of the prompts; figures go to standard error.
    """
    options = dict(locals())
    with at_once():
        from apexbench.cli.generate_job import job_of

        job = job_of(options)
        _check_target(json)
        session = _Session(job, json, is_quiet=quiet)
    with deferred() as request:
        return session.run(request)


def _check_target(json: str | None) -> None:
    from apexbench.files import check_target

    if json is not None and json != STDOUT:
        check_target(json)


class _Session:
    """One call of the command: load, generate with text as it comes, then figures."""

    def __init__(self, job: "Job", json: str | None, *, is_quiet: bool) -> None:
        from rich.console import Console

        self._job = job
        self._json = json
        self._is_quiet = is_quiet
        self._errors = Console(stderr=True, highlight=False)

    def run(self, stop: StopRequest) -> int:
        """The exit code."""
        from apexbench.cli.generation import generate as serve

        try:
            loaded = self._load(stop)
        except KeyboardInterrupt:
            self._say("interrupted before anything was generated")
            return ExitCode.INTERRUPTED
        printer = _Printer(len(self._job.prompts), is_shown=self._json != STDOUT)
        outcome = serve(self._job, loaded, printer.piece, stop.is_asked)
        printer.rest()
        return self._finish(outcome)

    def _load(self, stop: StopRequest) -> "Loaded":
        from apexbench.cli.generation import load
        from apexbench.cli.progress import Bars
        from apexbench.compare.pool import Extent
        from apexbench.compare.pool import Loaded as Bytes

        is_shown = sys.stderr.isatty() and not self._is_quiet
        with Bars(self._errors, is_shown=is_shown) as bars:
            report = stop.watching(bars.phase)("loading")
            loaded = load(self._job, lambda done, total: report(Extent(loaded=Bytes(done, total))))
            stop.check()
            return loaded

    def _finish(self, outcome: "Outcome") -> int:
        from apexbench.cli.generated import document, failures, summary

        self._write(document(self._job, outcome))
        if not self._is_quiet:
            self._errors.print(summary(outcome), markup=False, soft_wrap=True)
        for sentence in failures(outcome):
            self._say(sentence)
        if outcome.is_interrupted:
            self._say("interrupted; this is what there was")
            return ExitCode.INTERRUPTED
        return ExitCode.RUN_FAILED if failures(outcome) else ExitCode.OK

    def _write(self, document: dict[str, object]) -> None:
        from json import dumps

        from apexbench.files import write_text_atomic

        text = dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if self._json == STDOUT:
            typer.echo(text, nl=False)
        elif self._json is not None:
            write_text_atomic(self._json, text)

    def _say(self, sentence: str) -> None:
        self._errors.print(f"apexbench: {sentence}", markup=False, soft_wrap=True)


class _Printer:
    """Answers in the order of the prompts: the first one that is not complete streams, later ones
    wait. Several are told apart by a line before each.
    """

    def __init__(self, num_prompts: int, *, is_shown: bool) -> None:
        self._texts = [""] * num_prompts
        self._is_over = [False] * num_prompts
        self._is_shown = is_shown
        self._current = 0
        self._has_begun = False

    def piece(self, prompt: int, text: str, is_over: bool) -> None:
        """The next piece of an answer."""
        self._is_over[prompt] |= is_over
        self._texts[prompt] += text
        while self._current < len(self._texts):
            self._show()
            if not self._is_over[self._current]:
                return
            self._end()

    def rest(self) -> None:
        """What answers have that were not complete."""
        while self._current < len(self._texts):
            self._show()
            self._end()

    def _show(self) -> None:
        """What the answer at hand has by now."""
        if not self._has_begun and len(self._texts) > 1:
            self._write(f"--- {self._current + 1}/{len(self._texts)}\n")
        self._has_begun = True
        self._write(self._texts[self._current])
        self._texts[self._current] = ""

    def _end(self) -> None:
        is_last = self._current + 1 == len(self._texts)
        self._write("\n" if is_last else "\n\n")
        self._current += 1
        self._has_begun = False

    def _write(self, text: str) -> None:
        if self._is_shown and text:
            sys.stdout.write(text)
            sys.stdout.flush()
