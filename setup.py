"""Adds one step to the build: the C library of apexbench.cpu_kernels, where a compiler is found.

Everything else stands in pyproject.toml. Without a compiler the installation succeeds and attention
on the CPU runs in NumPy. A wheel that holds the library is tagged with its platform but with no
Python version, because the library is loaded by ctypes.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

PACKAGE = Path("apexbench", "cpu_kernels")


def load_builder() -> ModuleType:
    """The build module by its path: importing the package would need what is not installed yet."""
    path = Path(__file__).resolve().parent / PACKAGE / "build.py"
    spec = importlib.util.spec_from_file_location("apexbench_kernel_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildKernels(Command):
    """Compiles the library into the build folder, or in place for an editable installation."""

    user_options = []  # noqa: RUF012 - the attribute setuptools reads

    def initialize_options(self) -> None:
        self.editable_mode = False
        self.build_lib: str | None = None
        self.is_built = False
        self.builder = load_builder()

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def packed_path(self) -> Path:
        return Path(self.build_lib or "") / PACKAGE / self.builder.LIBRARY_NAME

    def run(self) -> None:
        """Build, or leave none: an old library of other sources must not be packed."""
        target = Path(self.builder.LIBRARY) if self.editable_mode else self.packed_path()
        try:
            if not self.builder.is_current(target):
                self.builder.build(target)
            self.is_built = True
        except self.builder.BuildError as error:
            self.warn(f"the CPU kernels are not compiled, attention will run in NumPy: {error}")
            if not self.editable_mode:
                target.unlink(missing_ok=True)

    def get_source_files(self) -> list[str]:
        return [str(path) for path in sorted((PACKAGE / "csrc").glob("*.[ch]"))]

    def get_outputs(self) -> list[str]:
        return [str(self.packed_path())] if self.is_built else []

    def get_output_mapping(self) -> dict[str, str]:
        source = str(PACKAGE / self.builder.LIBRARY_NAME)
        return dict.fromkeys(self.get_outputs(), source) if self.editable_mode else {}


class BuildWithKernels(build):
    """The usual steps and the one above."""

    sub_commands = [*build.sub_commands, ("build_kernels", None)]  # noqa: RUF012


class PlatformWheel(bdist_wheel):
    """Tags a wheel with the library py3-none-PLATFORM; one without stays py3-none-any."""

    def has_library(self) -> bool:
        return bool(self.get_finalized_command("build_kernels").is_built)

    def get_tag(self) -> tuple[str, str, str]:
        if not self.has_library():
            return super().get_tag()
        platform = self.plat_name.lower().replace("-", "_").replace(".", "_")
        return self.python_tag, "none", platform

    def write_wheelfile(self, *arguments: object, **options: object) -> None:
        self.root_is_pure = not self.has_library()
        super().write_wheelfile(*arguments, **options)


setup(
    cmdclass={
        "bdist_wheel": PlatformWheel,
        "build": BuildWithKernels,
        "build_kernels": BuildKernels,
    }
)
