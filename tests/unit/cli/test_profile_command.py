"""`apexbench profile` with a host that does not exist: files, sentences and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from apexbench.cli.main import run
from apexbench.engine.executors.profiling import host
from apexbench.engine.hardware import load_host
from tests.host_measurements import NOISY, measurements

Capture = pytest.CaptureFixture[str]
Asked = list[tuple[str, int | None]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What the command asks to be measured, in an empty directory."""
    found: Asked = []

    def measure(scope: Any, threads: int | None, watchers: Any) -> Any:
        watchers.check()
        watchers.tell(0.5, "something")
        found.append((scope.name, threads))
        return measurements(scope=scope.name)

    monkeypatch.setattr(host, "measure_host", measure)
    monkeypatch.chdir(tmp_path)
    return found


def test_it_writes_local_toml_shows_it_and_says_what_next(asked: Asked, capsys: Capture) -> None:
    assert run(["profile"]) == 0
    out = capsys.readouterr().out
    assert asked == [("full", None)]
    assert load_host("local.toml").name == "local"
    for words in ("Test CPU, 2 cores", "core_gb_per_s", "fp16 MHA", "int8 GQA 4", "interpolated",
                  "memcpy out 1024 KiB", "submit and join from Python, 1 spinning workers",
                  "apexbench: wrote local.toml",
                  "Next: apexbench compare --host local.toml --gpu t4"):  # fmt: skip
        assert words in out


def test_options_reach_the_measurement_and_the_file(asked: Asked, capsys: Capture) -> None:
    arguments = ["--quick", "--cpu-threads", "2", "--base-host", "g4dn.xlarge"]
    assert (
        run(["profile", *arguments, "--profile-out", "my box.toml", "--json", "points.json"]) == 0
    )
    assert asked == [("quick", 2)]
    loaded = load_host("my box.toml")
    assert loaded.name == "my box"
    assert "'g4dn.xlarge'" in loaded.eager_layer_us.source
    assert json.loads(Path("points.json").read_text())["kind"] == "host_profile"
    out = capsys.readouterr().out
    assert "wrote my box.toml" in out
    assert "wrote points.json" in out
    assert "--host 'my box.toml' --gpu" in out
    assert not Path("local.toml").exists()


def test_a_document_on_standard_output_is_alone_there(asked: Asked, capsys: Capture) -> None:
    assert run(["profile", "--profile-out", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# Measured by apexbench profile")
    assert "Next: apexbench compare" in captured.err
    assert run(["profile", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["name"] == "local"
    assert "wrote local.toml" in captured.err


def test_an_older_profile_is_replaced_and_that_is_said(asked: Asked, capsys: Capture) -> None:
    assert run(["profile"]) == run(["profile"]) == 0
    assert "replaced local.toml" in capsys.readouterr().out


def test_a_busy_machine_is_said(
    asked: Asked, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "measure_host", lambda *_: measurements(quiet_before=NOISY))
    assert run(["profile"]) == 0
    said = "apexbench: the machine was not quiet before the run: other processes took 40% of the"
    assert said in capsys.readouterr().out


def test_the_date_is_the_one_that_was_asked_for(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert run(["profile"]) == 0
    first = Path("local.toml").read_bytes()
    assert b'date = "1970-01-02T00:00:00+00:00"' in first
    assert run(["profile"]) == 0
    assert Path("local.toml").read_bytes() == first


def complaint(arguments: list[str], code: int, capsys: Capture) -> str:
    assert run(["profile", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = captured.err.splitlines()
    return sentence.removeprefix("apexbench: ")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--profile-out", "-", "--json", "-"], 2, "both want standard output; name a file"),
        (["--profile-out", "host.txt"], 2, "is 'host.txt'; expected a name that ends in .toml"),
        (["--base-host", "xeon-6130"], 2, "unknown host 'xeon-6130'; did you mean xeon-6130x2"),
        (["--cpu-threads", "many"], 2, "'--cpu-threads': Input should be a valid integer"),
        (["--fast"], 2, "No such option"),
        (["--profile-out", "there/is/a/file/local.toml"], 3, "a file is in the way; name"),
        (["--profile-out", "folder.toml"], 3, "'folder.toml': it is a directory; name a file"),
        (["--json", "there/points.json"], 3, "a file is in the way; name"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_measured(
    asked: Asked, capsys: Capture, arguments: list[str], code: int, sentence: str
) -> None:
    Path("there").write_text("in the way")
    Path("folder.toml").mkdir()
    assert sentence in complaint(arguments, code, capsys)
    assert asked == []


def test_a_local_toml_of_somebody_elses_is_kept(asked: Asked, capsys: Capture) -> None:
    Path("local.toml").write_text("role = 'gpu'\n")
    said = complaint([], 2, capsys)
    assert said.startswith("'local.toml' exists and is not a profile of apexbench profile; name")
    assert Path("local.toml").read_text() == "role = 'gpu'\n"
    assert run(["profile", "--profile-out", "local.toml"]) == 0  # asked for by name
    assert asked == [("full", None)]


def test_without_compiled_kernels_it_is_one_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APEXBENCH_CPU_KERNELS", "fallback")
    monkeypatch.chdir(tmp_path)
    assert "the CPU kernels are not compiled here; run: python -m" in complaint([], 3, capsys)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_and_exits_with_130(
    asked: Asked, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "measure_host", interrupted)
    assert complaint(["--profile-out", "a.toml", "--json", "b.json"], 130, capsys) == "interrupted"
    assert list(Path.cwd().iterdir()) == []
