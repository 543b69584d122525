# make quick  environment in .venv, then a first table, a figure and the way to trace a number: two minutes
# make demo   environment in .venv, then tables/table3.csv at demo scale on the CPU
# make reference  tables/quick.csv with digits that do not depend on the CPU, each file compared with workflow/reference
# make rehearsal  two of the demo's LLMs, four methods: what each takes on this machine, on two DeepSpeed ranks of the CPU
# make check  lint, format, types, layers and the tests that are not slow
# make test   the same with all tests, as CI runs it (TEST_WORKERS: how many at a time)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # else each process compiles our modules anew

.PHONY: quick demo reference reference-update rehearsal check test lint environment demo-weights clean

environment: .venv/installed

.venv/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --requirement envs/requirements.lock
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true  # pip takes one core; a file that does not compile is skipped
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Rows of Table 3: what this makes is not made again by `make demo`.
quick: environment
	$(BIN)/snakemake -c2 tables/quick.csv tables/quick.md figures/quick-figure.png figures/quick-figure.svg
	@cat tables/quick.md
	@echo
	@echo 'The same as a picture: figures/quick-figure.png. Where one of these numbers comes from:'
	@echo
	@echo '    $(BIN)/lntune trace quick "MM-VICUNA-7B: LayerNorm-80K" MSCOCO'

demo: environment
	$(BIN)/snakemake -c2 tables/table3.csv tables/table3.md
	@cat tables/table3.md

reference: environment
	$(BIN)/snakemake -c2 --config scale=portable -- tables/quick.csv
	PYTHONPATH=src $(BIN)/python -m measurements.reference quick

# After an edit, or a new package, that is meant to change bytes.
reference-update: environment
	$(BIN)/snakemake -c2 --config scale=portable -- tables/quick.csv
	PYTHONPATH=src $(BIN)/python -m measurements.reference quick --update

rehearsal: environment
	$(BIN)/snakemake -c1 tables/rehearsal.csv tables/rehearsal.md --config \
	  'rehearsal={llms: [vicuna-7b, llama2-13b], methods: [finetune, lora, layernorm, layernorm-simp], ranks: 2}'
	@cat tables/rehearsal.md

lint: environment
	$(BIN)/ruff check src tests measurements
	$(BIN)/ruff format --check src tests measurements
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/lint-imports --no-cache --no-logo & layers=$$!; $(BIN)/mypy && wait $$layers

# Tests of a file run one after the other, and so do all of tests/slurm, whose cluster mostly waits: hence one more
# worker than cores.
TEST_WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: lint
	$(PYTEST) -m "not slow" --ignore tests/slurm

test: lint
	$(PYTEST)

# Trains the demo's models anew, up to 40 minutes on two cores; the repository carries them already.
demo-weights: environment
	$(BIN)/snakemake -s workflow/demo_weights.smk -c2

clean:
	rm -rf tables figures site logs .snakemake
