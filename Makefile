# Two commands do everything on a fresh machine: `make run` and `make test`.
# Stamps inside .venv make the second run fast; they depend on pyproject.toml and constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check lint format kernels bench grid fidelity gemm paper clean debian-packages

OUT ?= out
BASE ?= HEAD~1
BIN := .venv/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt
SOURCES := apexbench engine workloads reports triton_kernels cpu_kernels tests .ci

help:
	@echo 'make run     install into .venv, run the default comparison, write $(OUT)/report.html'
	@echo 'make test    install the test extras, then format, lint, types, import contracts, tests'
	@echo 'make check   the same without installing anything'
	@echo 'make format  rewrite the sources in the one format'
	@echo 'make kernels compile the CPU kernels in place, with all warnings as errors'
	@echo 'make bench   benchmarks, as a ratio with BASE=$(BASE)'
	@echo 'make grid    the planner against every other policy, 24 cells; writes docs/planner-grid.md'
	@echo 'make fidelity emulated runs against the simulator, a quarter of an hour on a quiet machine; writes docs/fidelity.md'
	@echo 'make paper   the claims of the APEX paper, simulated; writes docs/paper.md'
	@echo 'make gemm    predicted matrix products against measured tables, TABLES=DIR; writes docs/gemm.md'
	@echo 'make clean   remove .venv, caches, build products and $(OUT)/'

run: .venv/.installed .venv/.kernels
	$(BIN)/apexbench compare --out $(OUT)/

# The packages first: installing compiles the CPU kernels where there is a compiler.
test: debian-packages .venv/.installed-test .venv/.kernels
	@$(MAKE) --no-print-directory check

check: lint
	$(BIN)/python -m pytest --benchmark-disable

lint:
	@test -x $(BIN)/ruff || { echo 'make: the test extras are not installed; run "make test" once' >&2; exit 3; }
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests
	$(BIN)/lint-imports

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

kernels: .venv/.installed
	$(BIN)/python -m apexbench.cpu_kernels.build --force --strict

bench: .venv/.installed-test .venv/.kernels
	$(BIN)/python .ci/bench_ratio.py --base $(BASE)

grid: .venv/.installed-test
	$(BIN)/python -m tests.grid.run

fidelity: .venv/.installed-test .venv/.kernels
	$(BIN)/python -m tests.fidelity.run

paper: .venv/.installed
	$(BIN)/apexbench paper --config docs/paper.toml --out docs/paper.md

gemm: .venv/.installed-test
	$(BIN)/python -m tests.gemm_page $(if $(TABLES),--tables "$(TABLES)")

clean:
	rm -f cpu_kernels/libapx.so
	rm -rf .venv $(OUT) build dist .benchmarks *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON=/path/to/python overrides the search for an interpreter of 3.11 or later.
.venv/.created:
	@found=; for python in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; fi; done; \
	if test -z "$$found"; then \
	  echo "make: apexbench needs Python 3.11 or later and found $$("$${PYTHON:-python3}" -V 2>&1 | tail -n 1); install one, or name it: make PYTHON=/path/to/python" >&2; exit 3; fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "make: $$found has no venv module; install it (Debian: apt-get install python3-venv) and run make again" >&2; exit 3; fi; \
	test -x $(BIN)/pip || { echo "creating .venv with $$("$$found" -V)"; "$$found" -m venv .venv; }
	@touch $@

.venv/.installed: .venv/.created pyproject.toml constraints.txt
	@echo 'installing apexbench into .venv (about a minute the first time)'
	@$(PIP) -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	@echo 'installing the test extras into .venv'
	@$(PIP) -e '.[test]'
	@touch $@

# Installing built the library once; this does it again when its sources change. Without a compiler
# there is no stamp, so that every run says what is missing.
.venv/.kernels: .venv/.installed cpu_kernels/build.py $(wildcard cpu_kernels/csrc/*.[ch])
	@if $(BIN)/python -m apexbench.cpu_kernels.build; then touch $@; else \
	  echo 'make: going on without the compiled CPU kernels; attention on the CPU runs in NumPy' >&2; fi

# What tests need beyond Python: a browser for the report, compilers and an emulator for the CPU
# kernels. As root on Debian they are installed; tests that lack them skip as UNPROVEN and say so.
debian-packages:
	@missing=; \
	need() { command -v "$$1" >/dev/null || compgen -G "$$1" >/dev/null || missing="$$missing $$2"; }; \
	need chromium chromium; need chromedriver chromium-driver; \
	need gcc gcc; need /usr/include/stdio.h libc6-dev; \
	need clang-19 clang-19; need '/usr/lib/llvm-19/lib/clang/*/lib/linux' libclang-rt-19-dev; \
	need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu; \
	need /usr/aarch64-linux-gnu/include/stdio.h libc6-dev-arm64-cross; need qemu-aarch64 qemu-user; \
	if test -z "$$missing"; then exit 0; fi; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "installing for the tests:$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -qq -o Acquire::Retries=1 >/dev/null || true; \
	  left=; for package in $$missing; do \
	    apt-get install -y -qq --no-install-recommends "$$package" >/dev/null || left="$$left $$package"; done; \
	  missing=$$left; fi; \
	if test -n "$$missing"; then \
	  echo "UNPROVEN: tests that need$$missing; prove them with: apt-get install$$missing"; fi
