# The project's commands for Linux and macOS (GNU make 3.81 or later). README.md has the same
# as plain pip lines for Windows. Everything happens in .venv and demo_output.
#
#   make demo PYTHON=python3.12     with another Python than python3

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE ?= CMBDetectorLib/resources/samples/sample_t2star.nii.gz
DEMO_OUTPUT ?= demo_output

# Stamps: an installation is repeated only when what it depends on has changed.
CREATED := $(VENV)/.created
WITH_INFERENCE := $(VENV)/.installed-inference
WITH_TEST := $(VENV)/.installed-test
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help demo test slow lint format types benchmark clean

help:
	@echo "make demo       install, search the sample scan, print the lesions and the picture's path"
	@echo "make test       install with the test extra and run the default test suite"
	@echo "make slow       run the tests that take minutes"
	@echo "make lint       ruff check and ruff format --check"
	@echo "make format     let ruff mend what it can"
	@echo "make types      mypy"
	@echo "make benchmark  time and memory of a run, beside MONAI's sliding window"
	@echo "make clean      remove $(VENV) and $(DEMO_OUTPUT)"

demo: $(WITH_INFERENCE)
	$(BIN)/cmbdetector detect $(SAMPLE) -o $(DEMO_OUTPUT) --overwrite

test: $(WITH_TEST)
	$(BIN)/python -m pytest

slow: $(WITH_TEST)
	$(BIN)/python -m pytest -m slow --timeout=3600

lint: $(WITH_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(WITH_TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(WITH_TEST)
	$(BIN)/mypy

benchmark: $(WITH_TEST)
	$(BIN)/python benchmarks/inference.py

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT)

$(WITH_INFERENCE): $(CREATED) $(REQUIREMENTS)
	$(INSTALL) -e ".[inference]"
	@touch $@

$(WITH_TEST): $(CREATED) $(REQUIREMENTS)
	$(INSTALL) -e ".[test]"
	@touch $(WITH_INFERENCE) $@

$(CREATED):
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	    echo "error: no program '$(PYTHON)'; Python 3.10 or later is needed:" \
	        "install it, or name it with 'make PYTHON=/path/to/python3 ...'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "error: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), Python 3.10 or later is needed:" \
	        "name another with 'make PYTHON=/path/to/python3 ...'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' lacks the modules venv and ensurepip, which make $(VENV):" \
	        "on Debian or Ubuntu install the package python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@
