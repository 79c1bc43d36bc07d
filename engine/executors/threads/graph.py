"""A program as a graph: which op waits for which, made once per program. Runs nothing."""

from typing import NamedTuple

from apexbench.engine.expansion import Op, expand
from apexbench.engine.program import Program

# Programs of deferred strategies differ from step to step and come back after L + 1 steps.
_MAX_GRAPHS = 512


class Graph(NamedTuple):
    """`dependents[i]` are ops that wait for op i, `num_deps[i]` how many it waits for itself."""

    ops: tuple[Op, ...]
    dependents: tuple[tuple[int, ...], ...]
    num_deps: tuple[int, ...]


class Graphs:
    """Graphs of the programs seen last, found by identity: `program.build` gives equal shapes the
    same object, and hashing one in full would take longer than some steps.
    """

    def __init__(self) -> None:
        self._graphs: dict[int, tuple[Program, Graph]] = {}  # the program keeps its id its own

    def of(self, program: Program) -> Graph:
        """The graph of a program."""
        found = self._graphs.get(id(program))
        if found is None:
            if len(self._graphs) == _MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            found = self._graphs[id(program)] = (program, _graph(program))
        return found[1]


def _graph(program: Program) -> Graph:
    ops = expand(program)
    dependents: list[list[int]] = [[] for _ in ops]
    for index, op in enumerate(ops):
        for dep in op.deps:
            dependents[dep].append(index)
    return Graph(ops, tuple(map(tuple, dependents)), tuple(len(op.deps) for op in ops))
