# Every command of the project. `make help` lists them; docs/ and README.md explain them.

EXPERIMENT ?= pretrain_tiny
VENV = .venv
PYTHON ?= python3
TORCH ?= 2.13.0
PORT ?= 6006

ifeq ($(strip $(VENV)),)
PY := python
ENVIRONMENT := active-environment
else
PY := $(VENV)/bin/python
ENVIRONMENT := $(VENV)/.complete
endif

.DEFAULT_GOAL := help
.PHONY: help known-names train preflight tokens export resume sample chat evaluate sweep compare reproduce tensorboard test test-avx2 format lint types check bench drills lock clean active-environment

# A variable that a target does not read is a mistake, and is said before anything is done.
ALWAYS = ARGS VENV PYTHON TORCH
USES_train = EXPERIMENT MODEL DATA ADAPTER LOGGER
USES_preflight = $(USES_train)
USES_tokens = $(USES_train)
USES_export = RUN MERGE
USES_resume = RUN
USES_sample = PROMPT RUN MODEL
USES_chat = RUN MODEL
USES_evaluate = RUN MODEL DATA
USES_sweep = SWEEP TRIALS WORKERS STORAGE NAME
USES_compare = RUNS
USES_reproduce = RUN
USES_tensorboard = PORT
USES_test-avx2 = TESTS
USED = $(sort $(foreach goal,$(MAKECMDGOALS),$(USES_$(goal)))) $(ALWAYS)
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNUSED := $(firstword $(filter-out $(USED) MAKEFLAGS MAKEOVERRIDES -%,$(GIVEN)))
ifneq ($(UNUSED),)
$(error $(UNUSED)= is nothing that make $(MAKECMDGOALS) reads: $(strip $(USED)). Options go into ARGS="--option value"; \
  docs/options.md has them by the words of other trainers)
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options of a run: make train ARGS=--help"

# --- Runs -----------------------------------------------------------------------------------------

# $(call piece,model,MODEL) is `--model configs/model/<MODEL>.yaml` if MODEL is given; it must exist.
existing = $(or $(wildcard configs/$(1)/$(2).yaml),$(error $(3)=$(2) is unknown; there are: \
  $(sort $(basename $(notdir $(wildcard configs/$(1)/*.yaml))))))
piece = $(if $($(2)),--$(3) $(call existing,$(1),$($(2)),$(2)))
comma := ,
LOGGERS = $(subst $() ,$(comma),$(sort $(subst $(comma), ,$(LOGGER))))
RUN_OPTIONS = --config $(call existing,experiment,$(EXPERIMENT),EXPERIMENT) $(call piece,model,MODEL,model.architecture) \
  $(call piece,data,DATA,data.corpus) $(call piece,adapter,ADAPTER,model.adapter) $(if $(LOGGER),--trainer.logger $(call existing,logger,$(LOGGERS),LOGGER))
given_run = $(if $(RUN),,$(error give the run: make $@ RUN=logs/<experiment>/<run>))$(or \
  $(patsubst %/checkpoints/last.ckpt,%,$(wildcard $(RUN:/=)/checkpoints/last.ckpt)),$(error RUN=$(RUN) \
  is no run with a checkpoint: give logs/<experiment>/<run>))

given_models = $(or $(strip $(RUN) $(MODEL)),$(error give what to measure: make $@ \
  RUN=logs/<experiment>/<run>, or MODEL= with a folder or a hub id))

known-names: # before the environment is made: a mistyped name is said at once
	@: $(RUN_OPTIONS)

train: known-names $(ENVIRONMENT) ## train: EXPERIMENT= MODEL= DATA= ADAPTER= LOGGER= name files of configs/, ARGS= is passed on
	@$(PY) train.py fit $(RUN_OPTIONS) $(ARGS)

preflight: known-names $(ENVIRONMENT) ## what such a run would do and how long it would take, with a decoded batch
	@$(PY) train.py preflight $(RUN_OPTIONS) $(ARGS)

tokens: known-names $(ENVIRONMENT) ## read and tokenize DATA= ahead of time
	@$(PY) train.py preflight $(RUN_OPTIONS) --measure false $(ARGS)

export: $(ENVIRONMENT) ## write a run's best model as a Hugging Face folder: RUN= [MERGE=1 works an adapter into the model]
	@$(PY) train.py export --config $(given_run)/config.yaml --ckpt_path $(or \
	  $(wildcard $(RUN:/=)/checkpoints/best.ckpt),$(RUN:/=)/checkpoints/last.ckpt) $(if $(MERGE),--merge true) $(ARGS)

resume: $(ENVIRONMENT) ## continue a run where it stopped: RUN=logs/<experiment>/<run>
	@$(PY) train.py fit --config $(given_run)/config.yaml --ckpt_path $(given_run)/checkpoints/last.ckpt $(ARGS)

sample: $(ENVIRONMENT) ## continue a text: PROMPT="..." [RUN= or MODEL=] [ARGS="--temperature 0.7 --top_k 50 --top_p 0.9 --seed 0"]
	@$(PY) -m gpt2_lightning generate $(if $(RUN)$(MODEL),--run "$(or $(RUN),$(MODEL))") --prompt="$$PROMPT" $(ARGS)

chat: $(ENVIRONMENT) ## talk with a model in the template it was tuned with: [RUN= or MODEL=]
	@$(PY) -m gpt2_lightning chat $(if $(RUN)$(MODEL),--run "$(or $(RUN),$(MODEL))") $(ARGS)

evaluate: $(ENVIRONMENT) ## perplexity and bits per byte of models on a text: RUN="..." or MODEL="..." [DATA=]
	@$(PY) -m gpt2_lightning evaluate $(given_models) $(if $(DATA),--data $(call existing,data,$(DATA),DATA)) $(ARGS)

sweep: $(ENVIRONMENT) ## try many configurations: SWEEP= names a file of configs/sweep, TRIALS= WORKERS= [STORAGE= NAME=]
	@$(PY) -m gpt2_lightning sweep $(call existing,sweep,$(SWEEP),SWEEP) $(if $(TRIALS),--trials $(TRIALS)) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(STORAGE),--storage "$(STORAGE)") $(if $(NAME),--name "$(NAME)") $(ARGS)

compare: $(ENVIRONMENT) ## runs side by side, as a page and a table: RUNS="logs/a/1 logs/b/*"
	@$(PY) -m gpt2_lightning compare $(or $(foreach run,$(RUNS),"$(run)"),$(error give the runs: make $@ RUNS="logs/<experiment>/*")) $(ARGS)

reproduce: $(ENVIRONMENT) ## run it once more from its folder, and say whether the numbers match: RUN=
	@$(PY) -m gpt2_lightning reproduce $(or $(if $(RUN),"$(RUN)"),$(error give the run to repeat: make $@ RUN=logs/<experiment>/<run>)) $(ARGS)

override PROMPT := $(value PROMPT)
export PROMPT  # as it is, dollar signs included
tensorboard: $(ENVIRONMENT) ## show the curves of all runs on http://127.0.0.1:6006 (PORT=)
	@$(PY) -m tensorboard.main --logdir logs --host 127.0.0.1 --port $(PORT) $(ARGS)

# --- Development ----------------------------------------------------------------------------------

test: $(ENVIRONMENT) ## run the tests, on two cores
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 $(ARGS)

# What a processor computes; with TESTS=tests the whole suite.
NUMBERS = tests/model tests/callbacks tests/inference/test_evaluate.py tests/test_configs.py tests/machine

test-avx2: $(ENVIRONMENT) ## run the tests of numbers and every experiment as a CPU with AVX2 alone does [TESTS=tests: all]
	@ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=1 \
	  $(PY) -m pytest -n 2 $(or $(TESTS),$(NUMBERS)) $(ARGS)

format: $(ENVIRONMENT) ## format the code
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

lint: $(ENVIRONMENT) ## check format and style
	@$(PY) -m ruff format --check . && $(PY) -m ruff check .

types: $(ENVIRONMENT) ## check types
	@$(PY) -m basedpyright --pythonpath $(PY)

check: ## everything CI runs: lint, types, test and test-avx2
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-avx2

bench: $(ENVIRONMENT) ## run the benchmarks that need no text or base; each prints a table
	@for name in muon nll corpora seeing checkpoints generation evaluation; do $(PY) benchmarks/$$name.py || exit 1; done

drills: $(ENVIRONMENT) ## kill, stop and damage runs in every way, and say what was lost; ARGS="--kills 200"
	@$(shell unshare -rm true 2> /dev/null && echo unshare -rm) $(PY) benchmarks/drills $(ARGS)

lock: ## write requirements.lock anew from pyproject.toml, with torch at TORCH=
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install -q torch==$(TORCH) -e ".[sweep,dev]"
	@build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > build/lock/requirements.lock
	@mv build/lock/requirements.lock requirements.lock && rm -rf build/lock

clean: ## remove runs and token stores, after asking
	@find logs data -mindepth 1 -maxdepth 1 ! -name README.md ! -name examples | grep . || { echo "nothing to remove"; exit 0; }; \
	printf "Remove all of these? [y/N] "; read -r answer && [ "$$answer" = y ] || { echo "nothing removed"; exit 0; }; \
	find logs data -mindepth 1 -maxdepth 1 ! -name README.md ! -name examples -exec rm -rf {} +

# --- Environment ----------------------------------------------------------------------------------

# A new environment whenever the lock changes; one whose installation did not end is not there.
$(VENV)/.complete: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 2; }
	@[ ! -e $(VENV) ] || [ -e $(VENV)/.made-here ] || \
	  { echo "VENV=$(VENV) was not made by this Makefile and is left alone; activate it and say: make VENV= ..."; exit 2; }
	@echo "Installing the packages of requirements.lock into $(VENV): a few minutes, once ..."
	@log=$$(mktemp) && trap 'rm -f $$log' EXIT && rm -rf $(VENV) && \
	{ $(PYTHON) -m venv $(VENV) && touch $(VENV)/.made-here && \
	  $(PY) -m pip install --disable-pip-version-check -r requirements.lock && \
	  $(PY) -m pip install --disable-pip-version-check --no-deps -e . ; } > $$log 2>&1 || \
	{ tail -n 20 $$log; rm -rf $(VENV); echo "The installation failed; nothing was kept."; exit 2; }
	@touch $@

active-environment:
	@$(PY) -c 'import gpt2_lightning' 2> /dev/null || \
	  { echo "The active environment lacks this project: pip install -r requirements.lock -e ."; exit 2; }
