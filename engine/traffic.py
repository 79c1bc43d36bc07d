"""What a policy that sets the pace is told before each step. Reads the books, decides nothing."""

from itertools import islice

from apexbench.engine.books import Books
from apexbench.engine.policies.base import Finished, Traffic
from apexbench.engine.sequence import Sequence

# Prompts of the queue that are counted; the others are taken to be like them.
_SEEN = 32


class TrafficWatch:
    """Counts requests as they end and looks at the queues on demand."""

    __slots__ = ("_books", "_finished")

    def __init__(self, books: Books) -> None:
        self._books = books
        self._finished: list[Finished] = []

    def on_finished(self, sequence: Sequence, end_ns: int) -> None:
        """A request was served to the end."""
        self._finished.append(
            Finished(sequence.prompt_tokens, sequence.generated, sequence.first_token_ns, end_ns)
        )

    def look(self, now_ns: int) -> Traffic:
        """The state now; requests that ended are told once."""
        books = self._books
        waiting, gpu = books.waiting, books.memory.gpu
        free_blocks = gpu.num_free - books.memory.watermark_blocks
        finished, self._finished = tuple(self._finished), []
        return Traffic(
            now_ns=now_ns,
            num_waiting=len(waiting),
            waiting_tokens=self._waiting_tokens(),
            head_tokens=waiting[0].target if waiting else 0,
            head_wait_ns=now_ns - waiting[0].arrival_ns if waiting else 0,
            newest_wait_ns=now_ns - waiting[-1].arrival_ns if waiting else 0,
            prefill_tokens=sum([s.target - s.computed for s in books.prefilling]),
            free_gpu_tokens=free_blocks * gpu.block_tokens,
            num_on_host=books.num_on_host,
            finished=finished,
        )

    def _waiting_tokens(self) -> int:
        waiting = self._books.waiting
        seen = sum([sequence.target for sequence in islice(waiting, _SEEN)])
        return seen * len(waiting) // _SEEN if len(waiting) > _SEEN else seen
