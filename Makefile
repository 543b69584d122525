# make demo   environment in .venv, then tables/table3.csv at demo scale on the CPU
# make test   lint, types, tests (TEST_WORKERS=1: one at a time)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint environment demo-weights clean

environment: .venv/installed

.venv/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement envs/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: environment
	$(BIN)/snakemake -c2 tables/table3.csv tables/table3.md
	@cat tables/table3.md

lint: environment
	$(BIN)/ruff check src tests measurements
	$(BIN)/mypy

TEST_WORKERS ?= 3

# The cluster of tests/slurm has the machine to itself.
test: lint
	$(BIN)/python -m pytest tests/slurm
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --ignore tests/slurm

# Trains the demo's models anew, up to 40 minutes on two cores; the repository carries them already.
demo-weights: environment
	$(BIN)/snakemake -s workflow/demo_weights.smk -c2

clean:
	rm -rf tables figures pages report.html logs .snakemake
