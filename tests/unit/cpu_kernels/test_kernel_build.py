"""Building and loading: what happens without a compiler, and that no wrong library is ever used."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apexbench.cpu_kernels import build as builder
from apexbench.cpu_kernels import is_compiled, native
from apexbench.cpu_kernels.native import VARIABLE, Library
from apexbench.cpu_kernels.structures import SIGNATURES
from apexbench.errors import InputError, UsageError

SOURCE = """\
#include <stdint.h>
__attribute__((visibility("default"))) int32_t apx_answer(void);
int32_t apx_answer(void) { return 42; }
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A library of one function."""
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "answer.c").write_text(SOURCE)
    return folder


@pytest.fixture
def needs_compiler() -> None:
    try:
        builder.find_compiler()
    except builder.BuildError:
        pytest.skip("UNPROVEN: no C compiler; prove it with: apt-get install gcc libc6-dev")


@pytest.mark.usefixtures("needs_compiler")
def test_a_library_knows_what_it_was_built_from(sources: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib" / "one.so"
    assert not builder.is_current(library, sources)
    builder.build(library, sources=sources)
    assert builder.is_current(library, sources)
    assert [path.name for path in library.parent.iterdir()] == ["one.so"]
    (sources / "answer.c").write_text(SOURCE.replace("42", "43"))
    assert not builder.is_current(library, sources)
    native._refuse_stale(library, tmp_path / "no sources here")
    with pytest.raises(InputError) as caught:
        native._refuse_stale(library, sources)
    assert str(caught.value) == (
        f"the compiled CPU kernels differ from their sources in {sources};"
        " run: python -m apexbench.cpu_kernels.build"
    )


@pytest.mark.usefixtures("needs_compiler")
def test_other_architectures_are_left_out(sources: Path, tmp_path: Path) -> None:
    (sources / "answer_avx2.c").write_text("#include <immintrin.h>\n__m256i x_avx2;\n")
    (sources / "answer_neon.c").write_text("#error not here\n")
    flags = builder.ISA_FLAGS["x86_64"]
    names = {path.name: flags for path, flags in builder._units(sources, flags)}
    assert set(names) == {"answer.c", "answer_avx2.c"}
    assert dict(builder._units(sources, flags))[sources / "answer_avx2.c"] == flags["_avx2"]
    assert [path.name for path, _ in builder._units(sources, {})] == ["answer.c"]


@pytest.mark.usefixtures("needs_compiler")
def test_a_failing_source_leaves_the_old_library(sources: Path, tmp_path: Path) -> None:
    library = tmp_path / "one.so"
    builder.build(library, sources=sources)
    before = library.read_bytes()
    (sources / "broken.c").write_text("#error on purpose\n")
    with pytest.raises(builder.BuildError, match=r"failed on broken\.c .*\n.*on purpose"):
        builder.build(library, sources=sources)
    assert library.read_bytes() == before


def test_the_compiler_is_cc_else_the_first_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(builder.BuildError, match=r"no C compiler on the path \(cc, gcc, clang\)"):
        builder.find_compiler()
    clang = tmp_path / "clang"
    clang.touch(stat.S_IRWXU)
    assert builder.find_compiler() == ["clang"]
    monkeypatch.setenv("CC", "ccache imaginary-cc")
    with pytest.raises(builder.BuildError, match="CC names 'ccache', which is not an executable"):
        builder.find_compiler()
    monkeypatch.setenv("CC", "clang -m64")
    assert builder.find_compiler() == ["clang", "-m64"]


def test_a_failing_compiler_is_exit_3_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", shutil.which("false") or "/bin/false")
    assert builder.main(["--force", "--out", str(tmp_path / "one.so")]) == 3
    assert "false failed on --version (exit 1)" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "one.so").exists()


def test_building_again_is_quick_unless_forced(
    compiled: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    if not builder.is_current(compiled.path):
        pytest.skip("UNPROVEN: the library in use was built from other sources")
    assert builder.main(["--out", str(compiled.path)]) == 0
    assert capsys.readouterr().err.endswith("is current\n")


@pytest.mark.usefixtures("needs_compiler")
def test_a_library_of_another_interface_is_refused(tmp_path: Path) -> None:
    names = [name for name in SIGNATURES if name != "apx_abi_version"]
    folder = tmp_path / "csrc"
    folder.mkdir()
    lines = [f"void {name}(void); void {name}(void) {{}}" for name in names]
    text = "#pragma GCC visibility push(default)\n" + "\n".join(lines)
    (folder / "all.c").write_text(text + "\nint apx_abi_version(void) { return 99; }\n")
    builder.build(tmp_path / "other.so", sources=folder)
    with pytest.raises(InputError, match=r"have interface 99, not 1; run: python -m"):
        native._load(str(tmp_path / "other.so"))


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(InputError, match=r"text\.so cannot be loaded .* run: python -m"):
        native._load(str(tmp_path / "text.so"))


def test_an_unknown_wish_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fallbak")
    with pytest.raises(
        UsageError, match="unknown value of APEXBENCH_CPU_KERNELS 'fallbak'; did you"
    ):
        is_compiled()


def test_without_a_library_there_is_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    assert native._load.__wrapped__("") is None
    with pytest.raises(InputError, match="is 'compiled' and nothing is; run: python -m"):
        native._load.__wrapped__("compiled")


@pytest.mark.parametrize("name", ["avx3", "neon", "avx2"])
def test_a_level_of_the_environment_that_is_not_there_is_an_error(
    name: str, compiled: Library
) -> None:
    from apexbench.cpu_kernels import supported_isas

    if name in supported_isas():
        pytest.skip("this CPU has the level")
    code = "from apexbench.cpu_kernels import isa; print(isa())"
    environment = os.environ | {"APEXBENCH_ISA": name}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"apexbench.errors.UsageError: APEXBENCH_ISA is '{name}', which")


def test_importing_the_package_loads_neither_numpy_nor_the_library() -> None:
    code = (
        "import sys, apexbench.cpu_kernels, apexbench.cpu_kernels.build;"
        "sys.exit(' '.join({'numpy', 'ctypes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
