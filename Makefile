# Two commands do everything on a fresh machine: `make run` and `make test`.
# Stamps inside .venv make the second run fast; they depend on pyproject.toml and constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check lint format bench grid gemm paper clean debian-packages

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
	@echo 'make bench   benchmarks, as a ratio with BASE=$(BASE)'
	@echo 'make grid    the planner against every other policy, 24 cells; writes docs/planner-grid.md'
	@echo 'make paper   the claims of the APEX paper, simulated; writes docs/paper.md'
	@echo 'make gemm    predicted matrix products against measured tables, TABLES=DIR; writes docs/gemm.md'
	@echo 'make clean   remove .venv, caches, build products and $(OUT)/'

run: .venv/.installed
	$(BIN)/apexbench compare --out $(OUT)/

test: .venv/.installed-test debian-packages
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

bench: .venv/.installed-test
	$(BIN)/python .ci/bench_ratio.py --base $(BASE)

grid: .venv/.installed-test
	$(BIN)/python -m tests.grid.run

paper: .venv/.installed
	$(BIN)/apexbench paper --config docs/paper.toml --out docs/paper.md

gemm: .venv/.installed-test
	$(BIN)/python -m tests.gemm_page $(if $(TABLES),--tables "$(TABLES)")

clean:
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

# The report is tested in a real browser. Without one those tests skip as UNPROVEN and say so.
debian-packages:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo 'installing chromium and chromium-driver for the report tests'; \
	  DEBIAN_FRONTEND=noninteractive apt-get update -qq -o Acquire::Retries=1 >/dev/null \
	    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null \
	    && exit 0; fi; \
	echo 'UNPROVEN: the report in a real browser; prove it with: apt-get install chromium chromium-driver'
