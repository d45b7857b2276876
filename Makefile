# Every target sets up what it needs: a virtual environment in .venv from pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/py$(VERSION).txt
STAMP := $(VENV)/.installed-py$(VERSION)
RUN_STAMP := $(VENV)/.installed-run-py$(VERSION)
# An environment for development runs the programs too.
INSTALLED = $(if $(wildcard $(STAMP)),$(STAMP),$(RUN_STAMP))
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: help demo test test-all check format stubs reference bench bench-models bench-gpu stream sweeps \
	ablations needle mixtures prefixes clean

help:
	@echo "make demo      pretrain, compare on recall, reload, evaluate: one page with pictures"
	@echo "make test      the tests, as CI runs them"
	@echo "make test-all  the heavier matrices too"
	@echo "make check     ruff, pyright, fast tests"
	@echo "make bench     speed of the ops beside the peers (downloads PyTorch)"
	@echo "make bench-models  whole models beside transformers: a training step, prompts, tokens"
	@echo "make bench-gpu  the same on a GPU, beside the kernels of the peers"
	@echo "make stream    two million bytes through titans_lmm in constant memory"
	@echo "make sweeps    the comparisons of docs/log.md: ablations, needle, mixtures, prefixes (hours)"

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0] if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(CONSTRAINTS) --editable ".[dev]"
	@touch $@

# What the programs need, without the tools of development.
$(RUN_STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(CONSTRAINTS) --editable "."
	@touch $@

$(CONSTRAINTS):
	@echo "there are no pinned versions for this Python; use 3.11 to 3.13: make PYTHON=python3.12"
	@exit 1

demo: $(INSTALLED)
	$(BIN)/memzoo demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

# Compiled as users do; see tests/conftest.py.
test-all: $(STAMP)
	XLA_FLAGS= $(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Files that are made from docstrings; a test says when they are out of date.
stubs: $(STAMP)
	$(BIN)/python -m memzoo.layer_stubs > .stubs.tmp && mv .stubs.tmp memzoo/layers.pyi
	-$(BIN)/ruff check --quiet --fix memzoo/layers.pyi
	$(BIN)/ruff format --quiet memzoo/layers.pyi

reference: $(STAMP)
	$(BIN)/python -m memzoo.reference > .reference.tmp && mv .reference.tmp docs/reference.md

bench: $(STAMP)
	$(BIN)/memzoo bench --prepare
	$(BIN)/memzoo bench --markdown docs/results/ops_cpu.md

bench-models: $(STAMP)
	$(BIN)/memzoo bench --rows step,read,generate --prepare
	$(BIN)/memzoo bench --rows step,read,generate --markdown docs/results/models_cpu.md

bench-gpu: $(STAMP)
	$(BIN)/memzoo bench --gpu --prepare
	$(BIN)/memzoo bench --gpu --markdown docs/results/ops_gpu.md
	$(BIN)/memzoo bench --gpu --rows prompt

# A run that is done is not trained again.
stream: $(INSTALLED)
	$(BIN)/memzoo train text-titans-lmm --name stream-titans-lmm \
		--model.width 64 --model.mlp-width 128 --model.pattern.0.repeats 2 \
		--model.pattern.0.layers.0.max-learning-rate 0.02 \
		--steps 60 --batch-size 8 --evaluation-examples 16 --optimizer.warmup-steps 10
	$(BIN)/memzoo eval runs/stream-titans-lmm --stream --split train --tokens 2000000

# What is trained already is not trained again.
sweeps: ablations needle mixtures prefixes

ablations: $(INSTALLED)
	$(BIN)/memzoo recall --name ablations --ablate titans_lmm \
		--num-pairs 16 --learning-rates 1e-2 --seeds 0 --steps 600

needle: $(STAMP)
	$(BIN)/memzoo recall --name needle --task needle \
		--layers titans_lmm,titans_mag,gated_delta_net,mamba2,attention \
		--lengths 256,1024,4096,16384 --length-examples 20 \
		--learning-rates 1e-2 --seeds 0 --steps 400 --batch-size 32

MIXTURE := mixture_of_memories
MIXED := --tokens-per-pair 4 --learning-rates 1e-2 --seeds 0,1,2 \
	--layers $(MIXTURE)-whole,$(MIXTURE)-plain,$(MIXTURE)-plain_wide,$(MIXTURE)-plain_large
mixtures: $(STAMP)
	$(BIN)/memzoo recall --name mixtures --num-pairs 16 --tokens-per-pair 4 \
		--ablate $(MIXTURE) --learning-rates 1e-2 --seeds 0,1,2 --steps 600
	$(BIN)/memzoo recall --name mixtures-32 $(MIXED) --num-pairs 32 --vocab-size 256 --steps 1000
	$(BIN)/memzoo recall --name mixtures-64 $(MIXED) --num-pairs 64 --vocab-size 512 --steps 6000

SETS := --task set_disjointness --vocab-size 272 --width 36 \
	--sizes 1:2,2:1,2:4,4:2,4:16,16:4 --read-sizes 4:16,16:4,4:64,64:4,4:256,256:4 \
	--learning-rates 1e-2 --seeds 0,1,2 --steps 1000 --evaluate-every 250
GATED := --task set_disjointness --vocab-size 96 --width 16 \
	--sizes 1:4,4:1,2:8,8:2,2:16,16:2 --read-sizes 2:8,8:2,2:16,16:2,2:32,32:2 \
	--learning-rates 1e-2 --seeds 0,1,2 --steps 3000 --evaluate-every 1000
AGAIN := --read-again 2,3 --num-pairs 16 --vocab-size 256 --head-size 16 --steps 800 --seeds 0,1,2
prefixes: $(STAMP)
	$(BIN)/memzoo recall --name sets $(SETS) \
		--layers prefix_linear_attention,prefix_linear_attention-causal
	$(BIN)/memzoo recall --name sets $(SETS) \
		--layers prefix_linear_attention-causal --repeat-context 2
	$(BIN)/memzoo recall --name sets-gated $(GATED) \
		--layers gated_delta_net,gated_delta_net-prefix
	$(BIN)/memzoo recall --name sets-gated $(GATED) \
		--layers gated_delta_net --repeat-context 2
	$(BIN)/memzoo recall --name read-again $(AGAIN) --learning-rates 1e-2 --layers \
		gated_delta_net,delta_net,titans_lmm,mamba2,retnet,prefix_linear_attention-causal
	$(BIN)/memzoo recall --name read-again $(AGAIN) --learning-rates 3e-3 --layers ttt_linear
	$(BIN)/memzoo recall --name read-twice --repeat-context 1,2 \
		--layers linear_attention,retnet,prefix_linear_attention-causal,delta_net,gated_delta_net,titans_lmm,mamba2 \
		--num-pairs 8 --vocab-size 128 --width 32 \
		--learning-rates 1e-2 --seeds 0,1,2 --steps 600
	for seed in 0 1 2; do \
		$(BIN)/memzoo train set-disjointness-linear-attention --name orders-causal-$$seed \
			--task.sizes 4 16 16 4 --seed $$seed --task.seed $$seed && \
		$(BIN)/memzoo train set-disjointness-prefix-linear-attention \
			--name orders-prefix-$$seed --task.task.sizes 4 16 16 4 \
			--seed $$seed --task.task.seed $$seed || exit 1; done

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build *.egg-info
