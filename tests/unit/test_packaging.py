"""What gets installed: everything as apexbench.*, nothing under a bare name, data files included.

The sub-packages are symlinks in the checkout, which is where an installation would go wrong.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
SUB_PACKAGES = ("engine", "workloads", "reports", "triton_kernels", "cpu_kernels")
PARTS = ("apexbench", *SUB_PACKAGES, "pyproject.toml", "setup.py", "README.md", "LICENSE")
# Built in place, ignored by git.
LIBRARY = "libapx.so"
NO_COMPILER = "false"
# The oldest that knows license expressions, as [build-system] demands.
OLDEST_SETUPTOOLS = Version("77")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, symlinks kept: a build must not leave anything in the real one."""
    if Version(metadata.version("setuptools")) < OLDEST_SETUPTOOLS:
        pytest.skip("UNPROVEN: builds need setuptools>=77 in the environment (make test)")
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", LIBRARY)
            shutil.copytree(source, copy / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, copy / part)
    return copy


@pytest.fixture
def small_tree(tree: Path, tmp_path: Path) -> Path:
    """The same with a C library of one function: quick to compile, where there is a compiler."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("UNPROVEN: no C compiler; prove it with: apt-get install gcc libc6-dev")
    copy = shutil.copytree(tree, tmp_path / "small", symlinks=True)
    shutil.rmtree(copy / "build", ignore_errors=True)
    sources = copy / "cpu_kernels" / "csrc"
    for path in sources.glob("*.c"):
        path.unlink()
    (sources / "answer.c").write_text("int answer(void);\nint answer(void) { return 42; }\n")
    return copy


def build(kind: str, tree: Path, out: Path, compiler: str | None = NO_COMPILER) -> Path:
    """Run one hook of the build backend in `tree`, as pip and build do, but without a network.

    compiler: what CC says, None for whatever is found.
    """
    code = (
        "import sys, setuptools.build_meta as backend;"
        "name = getattr(backend, sys.argv[1])(sys.argv[2]);"
        "print(); print(name)"
    )
    command = [sys.executable, "-c", code, f"build_{kind}", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "CC"}
    if compiler is not None:
        environment["CC"] = compiler
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def expected_files() -> set[str]:
    """Every Python file and every data file that the package has in the checkout."""
    package = ROOT / "apexbench"
    names = {f"apexbench/{path.name}" for path in package.glob("*.py")}
    for folder in (path for path in package.iterdir() if path.is_dir()):
        base = folder.resolve()
        files = [p for p in base.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        files = [path for path in files if path.name != LIBRARY]
        names |= {f"apexbench/{folder.name}/{p.relative_to(base).as_posix()}" for p in files}
    return names


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def top_levels(names: set[str]) -> set[str]:
    return {name.partition("/")[0] for name in names}


def test_wheel_holds_every_file_under_apexbench_alone(tree: Path, tmp_path: Path) -> None:
    names = contents(build("wheel", tree, tmp_path))
    assert expected_files() <= names
    assert top_levels(names) == {"apexbench"}


def test_wheel_made_from_the_sdist_is_the_same(tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = next((tmp_path / "unpacked").iterdir())
    direct, indirect = tmp_path / "direct", tmp_path / "indirect"
    direct.mkdir()
    indirect.mkdir()
    through_sdist = contents(build("wheel", unpacked, indirect))
    assert through_sdist == contents(build("wheel", tree, direct))


def test_wheel_without_a_compiler_works_anywhere(tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", tree, tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "apexbench/cpu_kernels/" + LIBRARY not in contents(wheel)


def test_wheel_with_the_library_is_for_this_platform(small_tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", small_tree, tmp_path, compiler=None)
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    assert "apexbench/cpu_kernels/" + LIBRARY in contents(wheel)
    assert not (small_tree / "cpu_kernels" / LIBRARY).exists()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        assert "Root-Is-Purelib: false" in archive.read(name).decode()
    # What an earlier build left must not be packed with other sources.
    (small_tree / "cpu_kernels" / "csrc" / "answer.c").write_text("int other;\n")
    again = build("wheel", small_tree, tmp_path)
    assert "apexbench/cpu_kernels/" + LIBRARY not in contents(again)


def test_editable_installation_compiles_in_place(small_tree: Path, tmp_path: Path) -> None:
    library = small_tree / "cpu_kernels" / LIBRARY
    build("editable", small_tree, tmp_path)
    assert not library.exists()
    build("editable", small_tree, tmp_path, compiler=None)
    built = library.read_bytes()
    build("editable", small_tree, tmp_path)  # current: nothing to compile, nothing to fail
    assert library.read_bytes() == built


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_installation_offers_no_bare_names(kind: str, tree: Path, tmp_path: Path) -> None:
    wheel = build(kind, tree, tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import importlib, importlib.util, site, sys;"
        "site.addsitedir(sys.argv[1]); names = sys.argv[2:];"
        "[importlib.import_module('apexbench.' + name) for name in names];"
        "sys.exit(' '.join(n for n in names if importlib.util.find_spec(n)))"
    )
    # -I and -S: neither the working directory nor this environment's packages take part.
    command = [sys.executable, "-I", "-S", "-c", code, str(site), *SUB_PACKAGES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", SUB_PACKAGES)
def test_bare_import_from_the_checkout_is_refused_in_a_sentence(name: str) -> None:
    command = [sys.executable, "-c", f"import {name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"import 'apexbench.{name}', not '{name}'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", SUB_PACKAGES)
def test_sub_packages_are_relative_symlinks(name: str) -> None:
    link = ROOT / "apexbench" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_licence_is_the_unmodified_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "Copyright [yyyy] [name of copyright owner]" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_constraints_pin_every_direct_requirement_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    required = {
        line.partition(";")[0].strip().partition(">")[0].lower()
        for line in metadata.requires("apexbench") or ()
        if not line.startswith("apexbench[")  # its own extras, named by another one
    }
    assert required - pinned == set()
