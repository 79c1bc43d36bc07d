"""Which commit froze the inputs, told by a repository made for the test."""

import subprocess
from pathlib import Path

import pytest

import apexbench
from apexbench.paper.freeze import digest, examine
from apexbench.paper.plan import load

PROFILES = Path(apexbench.__file__).parent / "engine" / "profiles"


class Repository:
    """A config under version control."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "paper.toml"
        self.git("init", "-q")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.directory, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, text: str) -> str:
        self.path.write_text(text)
        self.git("add", "paper.toml")
        self.git("commit", "-q", "-m", "a version")
        return self.git("rev-parse", "HEAD")

    def frozen_by(self) -> str | None:
        return examine(load(self.path)).commit


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_run_sizes_do_not_move_the_freeze(repository: Repository, config_text: str) -> None:
    first = repository.commit(config_text)
    repository.commit(config_text.replace("requests = 50", "requests = 70"))
    repository.path.write_text(config_text.replace("draws = 3", "draws = 5"))
    assert repository.frozen_by() == first


def test_a_changed_claim_is_a_new_freeze(repository: Repository, config_text: str) -> None:
    repository.commit(config_text)
    second = repository.commit(config_text.replace("low = 1", "low = 0"))
    assert repository.frozen_by() == second
    repository.path.write_text(config_text.replace("low = 1", "low = 0.5"))
    assert repository.frozen_by() is None


def test_going_back_to_an_old_version_counts_from_then(
    repository: Repository, config_text: str
) -> None:
    repository.commit(config_text)
    repository.commit(config_text.replace("low = 1", "low = 0"))
    third = repository.commit(config_text)
    assert repository.frozen_by() == third


def test_a_broken_old_version_ends_the_walk(repository: Repository, config_text: str) -> None:
    repository.commit("title = ")
    assert repository.commit(config_text) == repository.frozen_by()


def test_without_a_repository_nobody_froze_it(tmp_path: Path, config_text: str) -> None:
    path = tmp_path / "paper.toml"
    path.write_text(config_text)
    found = examine(load(path))
    assert (found.commit, found.date, found.num_files, found.changed) == (None, None, 0, {})


def test_files_that_changed_or_vanished_are_named(tmp_path: Path, config_text: str) -> None:
    same, gone = "engine/models.py", "engine/none.py"
    changed = "workloads/presets.py"
    lines = [
        f'"{same}" = "{digest(same)}"',
        f'"{changed}" = "{"0" * 64}"',
        f'"{gone}" = "{"1" * 64}"',
    ]
    path = tmp_path / "paper.toml"
    path.write_text(config_text.replace("[frozen]", "\n".join(["[frozen]", *lines])))
    found = examine(load(path))
    assert found.num_files == 3
    assert found.changed == {changed: digest(changed), gone: None}
