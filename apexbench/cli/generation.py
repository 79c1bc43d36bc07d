"""One run of the real engine over prompts: text as it comes, then what became of each prompt."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apexbench.compare.machines.engine_modules import engine_module
from apexbench.compare.realtime.loading import calibrated, load_decoder, threading_of
from apexbench.engine.clock import WallClock
from apexbench.engine.costs import CostModel, FlatCosts
from apexbench.engine.running import RunSpec, run
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import NS_PER_S, Request, RequestRecord, RequestStatus, RunLog, Workload

if TYPE_CHECKING:
    from apexbench.compare.machines.real_model import CpuMachine
    from apexbench.engine.model.decoder import Decoder
    from apexbench.engine.model.sampling_params import Sampled, SamplingParams
    from apexbench.engine.model.stopping import Completion
    from apexbench.engine.model.tokenizer import TextStream, Tokenizer
    from apexbench.engine.plan import StepPlan, StepResult
    from apexbench.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Prompt:
    """What somebody asked: `text` is None where it came as token ids."""

    token_ids: tuple[int, ...]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts with what decides their tokens, and what they run on.

    Without a host tier there is nothing to place, and `policy` is gpu-only.
    """

    prompts: tuple[Prompt, ...]
    params: "SamplingParams"
    tokenizer: "Tokenizer | None"
    machine: "CpuMachine"
    policy: str
    thresholds: Thresholds

    @property
    def requests(self) -> tuple[Request, ...]:
        """One per prompt, all waiting at the start; ids count from 0."""
        return tuple(
            Request(index, 0, len(prompt.token_ids), self.params.max_tokens, prompt.token_ids)
            for index, prompt in enumerate(self.prompts)
        )


@dataclass(slots=True, eq=False)
class Answer:
    """What came of a prompt. `record` is None until the run has ended."""

    prompt: Prompt
    completion: "Completion"
    has_text: bool
    tokens: "list[Sampled]" = field(default_factory=list)
    record: RequestRecord | None = None

    def piece(self, count: int) -> str:
        """Text that is new; the ids of the last `count` tokens where there is no tokenizer."""
        if self.has_text:
            return self.completion.take_text()
        return "".join(f"{token} " for token in self.completion.token_ids[-count:])


@dataclass(frozen=True, slots=True)
class Outcome:
    """All answers, and how the run went; `is_interrupted`: some are not complete."""

    answers: tuple[Answer, ...]
    is_interrupted: bool
    log: RunLog
    steps: dict[str, int]  # by strategy
    wall_s: float


Piece = Callable[[int, str, bool], None]  # prompt, its next piece of text, whether it has ended


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory and what its operations take here."""

    decoder: "Decoder"
    belief: CostModel  # asked only where there is a host tier to decide about


def load(job: Job, on_progress: Callable[[int, int], None]) -> Loaded:
    """Everything that does not depend on the prompts; `on_progress` counts bytes of weights."""
    machine = job.machine
    decoder = load_decoder(machine, on_progress)
    if not machine.capacity.cpu_kv_tokens:
        return Loaded(decoder, FlatCosts(num_layers=machine.model.num_layers))
    return Loaded(decoder, calibrated(decoder, machine).costs)


def generate(job: Job, loaded: Loaded, on_piece: Piece, should_stop: Callable[[], bool]) -> Outcome:
    """Serve all prompts, or what there is time for until `should_stop`."""
    speaker = _Speaker(job, on_piece)
    opening = engine_module("apexbench.engine.executors.cpu.opening")
    clock, pools = WallClock(), _pools(job.machine)
    spec = RunSpec(
        workload=Workload("generate", job.requests, "", ""),
        policy=job.policy,
        belief=loaded.belief,
        pools=pools,
        thresholds=job.thresholds,
    )
    with opening.open_cpu(
        loaded.decoder,
        pools,
        speaker.prompt_of,
        clock,
        threading=threading_of(job.machine),
        cpu_kv_dtype=job.machine.cpu_kv_dtype,
        on_token=speaker.on_token,
    ) as executor:
        clock.restart()
        log = run(
            spec,
            executor,
            clock,
            job.machine.model.num_layers,
            observers=(speaker.on_step,),
            should_stop=should_stop,
        )
    return speaker.outcome(log)


def _pools(machine: "CpuMachine") -> Pools:
    return Pools(
        machine.capacity.gpu_kv_tokens,
        machine.capacity.cpu_kv_tokens,
        machine.gpu_block_tokens,
        machine.cpu_block_tokens,
    )


class _Speaker:
    """Knows what prompts ask, collects their tokens, and passes text on between steps."""

    def __init__(self, job: Job, on_piece: Piece) -> None:
        self._on_piece = on_piece
        self._steps: Counter[str] = Counter()
        self._params = job.params
        has_text = job.tokenizer is not None
        self._make = engine_module("apexbench.engine.executors.cpu.sequences").Prompt
        completion = engine_module("apexbench.engine.model.stopping").Completion
        eos = job.machine.config.eos_token_ids
        self.answers = [
            Answer(prompt, completion(job.params, eos, _stream(job.tokenizer, prompt)), has_text)
            for prompt in job.prompts
        ]

    def prompt_of(self, request: Request) -> object:
        """As the executor wants it."""
        answer = self.answers[request.id]
        return self._make(answer.prompt.token_ids, self._params, answer.completion)

    def on_token(self, sequence: int, token: "Sampled") -> None:
        """On the thread of the GPU lane."""
        self.answers[sequence].tokens.append(token)

    def on_step(self, plan: "StepPlan", result: "StepResult", _: "Scheduler") -> None:
        """Between two steps: nobody samples meanwhile."""
        self._steps[plan.strategy] += 1
        for sequence, count in result.tokens:
            piece = self.answers[sequence].piece(count)
            self._on_piece(sequence, piece, sequence in result.finished)
        for sequence, _reason in result.failed:
            self._on_piece(sequence, "", True)

    def outcome(self, log: RunLog) -> Outcome:
        """Once the run has ended."""
        for record in log.requests:
            self.answers[record.id].record = record
        is_cut = any(record.status is RequestStatus.UNFINISHED for record in log.requests)
        answers, steps = tuple(self.answers), dict(self._steps)
        return Outcome(answers, is_cut, log, steps, log.end_ns / NS_PER_S)


def _stream(tokenizer: "Tokenizer | None", prompt: Prompt) -> "TextStream | None":
    return None if tokenizer is None else tokenizer.stream(prompt.token_ids)
