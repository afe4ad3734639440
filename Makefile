# The environment is .venv: the packages of requirements.lock, plus the project itself. Nothing else is touched.
#   make reproduce                 every table, figure and verdict of scale ci, from data to PDF
#   make reproduce SCALE=small     another scale: ci, small, paper, or the path of a scale file
#   make reproduce EXHIBITS="warmstart/table1 warmstart/fig2"      some exhibits, or a paper: EXHIBITS=rewarm
#       BUDGET=<hours> allows more than a day; PROFILE=slurm runs elsewhere; RERUN=1 trains runs of older code again
#       and repeats measurements of time that other work disturbed
#       DECIDE=<core-hours> also trains further seeds where they are expected to decide most claims
#   make figures FROM=reference    draw all exhibits of a scale from its committed records, without training
#   make regress                   train what the reference reproduced, and fail where further seeds confirm that an
#                                  effect was lost
#   make verify-reference          train the cheapest reference runs of each paper again; they must match
#   make perf | perf-check         the speed table | fail if a ratio fell against the committed table
#   make first-gpu                 the first minutes on a GPU: checks, speed and first results; PYTHON=/path/to/python names the
#                                  python of an image that has torch, so that nothing is installed; INTO=<folder>
#   make env | doctor              create or update the environment | check it and say what to do
#   make slurm                     add what PROFILE=slurm needs (done by itself where that is asked for)
#   make generate                  schema and keys of the scale files, verdicts of the reference
#   make test | lint               the fast tests | style, types and workflow

VENV := .venv
BIN := $(VENV)/bin
# The first CPython of 3.11 to 3.13 that is found; `make env PYTHON=/path/to/python3.12` chooses another.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo "$$name"; break; }; done)

SCALE ?= ci
EXHIBITS ?=
BUDGET ?=
PROFILE ?= local
RERUN ?=
DECIDE ?=
FROM ?= results
BENCH := $(BIN)/python -m bench
# Snakemake imports every plugin that is installed whenever it starts, and Slurm's brings pandas: a third of the start.
ON_DEMAND := ^snakemake-executor-plugin-slurm
SELECTION = --scale "$(SCALE)" $(if $(EXHIBITS),--exhibits $(EXHIBITS))
WORKFLOW = --profile "$(PROFILE)" $(if $(BUDGET),--budget "$(BUDGET)")

.DEFAULT_GOAL := env
.PHONY: env slurm generate doctor test lint reproduce figures regress verify-reference perf perf-check first-gpu

env: $(VENV)/.complete

slurm: $(VENV)/.slurm

$(VENV)/.slurm: $(VENV)/.complete
	@grep '$(ON_DEMAND)' requirements.lock > $@.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $@.txt
	@mv $@.txt $@

# A call that was stopped half-way leaves .incomplete, and the next one starts afresh: a package that is installed in
# part looks complete to pip. While the make that wrote its number there lives, another one keeps its hands off.
# An environment that was made otherwise is kept and brought up to date.
$(VENV)/.complete: requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "no CPython 3.11 to 3.13 was found; install one, or name it: make env PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@if maker=$$(cat $(VENV)/.incomplete 2>/dev/null) && [ -n "$$maker" ] && kill -0 "$$maker" 2>/dev/null; then \
		echo "process $$maker is making $(VENV); run this again when it has ended" >&2; exit 1; fi
	@if [ -e $(VENV)/.incomplete ]; then echo "$(VENV) is incomplete: starting afresh"; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && echo $$PPID > $(VENV)/.incomplete && rm -f $@
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) has no venv module; install it (on Debian: the package python3-venv)" >&2; exit 1; }
	@echo "installing requirements.lock into $(VENV) (several minutes the first time; torch for CUDA takes about 6 GB)"
	@grep -v '$(ON_DEMAND)' requirements.lock > $@.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $@.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm $(VENV)/.incomplete && mv $@.txt $@

reproduce: env $(filter slurm,$(PROFILE))
	@$(BENCH) reproduce $(SELECTION) $(WORKFLOW) $(if $(RERUN),--rerun)
ifneq ($(DECIDE),)
	@$(BENCH) decide $(SELECTION) $(WORKFLOW) --hours "$(DECIDE)"
endif

figures: env
	@$(BENCH) draw $(SELECTION) --from "$(FROM)"

regress: env $(filter slurm,$(PROFILE))
	@$(BENCH) reproduce $(SELECTION) $(WORKFLOW) --regress

verify-reference: env
	@$(BENCH) reference check $(SELECTION)

perf: env
	@$(BENCH) perf

perf-check: env
	@$(BENCH) perf --check

# With PYTHON on the command line that one is called, and no environment is made.
first-gpu: $(if $(filter command,$(word 1,$(origin PYTHON))),,env)
	@$(if $(filter command,$(word 1,$(origin PYTHON))),"$(PYTHON)",$(BIN)/python) -m bench.perf.first_gpu $(if $(INTO),--into "$(INTO)")

generate: env
	@$(BENCH) generate

doctor: env
	@$(BENCH) doctor

test: env
	$(BIN)/python -m pytest -m "not slow and not gpu and not cluster" --numprocesses 2 --dist loadfile $(PYTEST)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile bench/workflow/rules
	BENCH_RESULTS=build/lint $(BIN)/python -m bench plan --scale ci --freeze
	$(BIN)/snakemake --lint --config plan=build/lint/ci/plan.json
	$(BIN)/mypy
