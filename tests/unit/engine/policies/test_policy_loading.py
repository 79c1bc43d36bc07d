"""Policies by import path: what is found, and one sentence for everything that can be wrong."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.policies.base import PolicyContext
from apexbench.engine.policies.loading import is_import_path
from apexbench.engine.policies.registry import find_policy, list_policies
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import ApexbenchError, InputError, PolicyError, UsageError

BAD = "tests.unit.engine.policies.bad_policies:"
BODY = """
from apexbench.engine.policies.base import JOIN_ALL

class Mine:
    '''Does nothing.

    At length.
    '''
    name = "mine"
    uses_cpu = True
    def __init__(self, context): pass
    def choose(self, work): return JOIN_ALL
"""

Write = Callable[[str], str]


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Write]:
    """Writes a module into the current directory; returns its name, which no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: list[str] = []

    def to(text: str) -> str:
        names.append(f"mine_{abs(hash((request.node.nodeid, len(names)))):x}")
        (tmp_path / f"{names[-1]}.py").write_text(text, encoding="utf-8")
        return names[-1]

    yield to
    for name in names:
        sys.modules.pop(name, None)


def problem(path: str, kind: type[ApexbenchError]) -> str:
    with pytest.raises(ApexbenchError) as caught:
        find_policy(path)
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("a:B", True),
        ("a.b_c.d:E1", True),
        ("neo", False),
        ("a:", False),
        (":B", False),
        ("a.b", False),
        ("a:B.C", False),
        ("a/b:C", False),
        ("a b:C", False),
        ("1a:B", False),
    ],
)
def test_what_looks_like_an_import_path(text, is_path) -> None:
    assert is_import_path(text) is is_path


def test_a_policy_is_found_in_the_current_directory(write: Write) -> None:
    path = f"{write(BODY)}:Mine"
    entry = find_policy(path)
    assert (entry.name, entry.summary) == (path, "Does nothing.")
    assert (entry.uses_cpu, entry.defers, entry.keeps_kv_on_host) == (True, False, False)
    assert "swap_in_fraction" in entry.thresholds
    assert "join_mode" not in entry.thresholds
    assert find_policy(path) is entry


def test_what_a_class_says_of_itself_is_in_its_entry(write: Write) -> None:
    more = '    defers = True\n    summary = "short"\n    keeps_kv_on_host = True\n'
    more += '    thresholds = ("two_batch_bias",)\n'
    entry = find_policy(f"{write(BODY + more)}:Mine")
    assert (entry.summary, entry.defers, entry.keeps_kv_on_host) == ("short", True, True)
    assert {"two_batch_bias", "join_mode", "max_running_rows"} <= set(entry.thresholds)


def test_an_entry_can_go_to_another_process() -> None:
    entry = find_policy(f"{BAD}Twice")
    again = pickle.loads(pickle.dumps(entry))
    assert again == entry
    assert again.make(PolicyContext(FlatCosts(num_layers=4), Thresholds())).name == "twice"


def test_registered_names_win_and_their_families_are_not_modules() -> None:
    assert find_policy("static:deferred") in list_policies()
    sentence = problem("static:deferrd", UsageError)
    assert sentence.startswith("unknown policy 'static:deferrd'; did you mean static:deferred")


def test_a_missing_module_says_what_was_searched(write: Write, tmp_path: Path) -> None:
    sentence = problem("no_such_module:Mine", UsageError)
    assert "no module 'no_such_module'" in sentence
    assert str(tmp_path) in sentence
    assert "no module 'no.such.module'" in problem("no.such.module:Mine", UsageError)
    assert "no module 'json.such'" in problem("json.such:Mine", UsageError)


def test_a_missing_class_names_near_ones(write: Write, tmp_path: Path) -> None:
    module = write(BODY)
    sentence = problem(f"{module}:Min", UsageError)
    assert sentence.endswith(": unknown class 'Min'; did you mean Mine?")
    assert str(tmp_path / f"{module}.py") in sentence
    assert "no other class" in problem(f"{write('x = 1')}:Mine", UsageError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\n\n1 / 0", "ZeroDivisionError: division by zero ("),
        ("import sys\nsys.exit(3)", "SystemExit: 3 ("),
        ("class Mine(:\n    pass", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_says_why_and_where(text, said, write: Write) -> None:
    module = write(text)
    sentence = problem(f"{module}:Mine", InputError)
    assert sentence.startswith(f"policy '{module}:Mine' cannot be imported: {said}")
    line = text.count("\n") + 1 if "class" not in text else 1
    assert f"{module}.py, line {line})" in sentence


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', "", "lacks name; a policy is a class with"),
        ("uses_cpu = True", "", "lacks uses_cpu;"),
        ("def choose", "def chose", "lacks choose;"),
        ("def choose(self, work): return JOIN_ALL", "choose = 3", "choose is not a method"),
        ('name = "mine"', "name = 3", "must be a text"),
        ('name = "mine"', 'name = "neo"', "calls itself 'neo', a registered policy's name"),
        ("uses_cpu = True", "uses_cpu = 1", "uses_cpu of policy"),
        ("uses_cpu = True", "uses_cpu = False\n    defers = True", "says uses_cpu = False"),
        ("uses_cpu = True", "uses_cpu = True\n    defers = None", "defers of policy"),
        ("uses_cpu = True", "uses_cpu = True\n    thresholds = 'x'", "must be a tuple of names"),
        ("context): pass", "): pass", "cannot be made: TypeError: "),
        ("context): pass", "context): context.nothing", "cannot be made: AttributeError: "),
        ("class Mine:", "def Mine():", "is no class but a function"),
    ],
)
def test_what_is_not_a_policy_is_told_what_it_lacks(old, new, said, write: Write) -> None:
    assert BODY.count(old) == 1
    assert said in problem(f"{write(BODY.replace(old, new))}:Mine", InputError)


def test_an_unknown_threshold_names_near_ones(write: Write) -> None:
    text = BODY + '    thresholds = ("join_mod",)\n'
    assert "did you mean join_mode?" in problem(f"{write(text)}:Mine", UsageError)


def test_a_constructor_that_fails_later_is_a_policy_error() -> None:
    entry = find_policy(f"{BAD}FailsToStart")
    with pytest.raises(PolicyError, match=r"cannot be made: Zero.* \(bad_policies.py, line "):
        entry.make(PolicyContext(FlatCosts(num_layers=5), Thresholds()))
