# Every target sets up what it needs: Python 3.11 or later, pip and make are enough.
PYTHON ?= python3
PORT ?= 7801
DATA_DIR ?= data
# What generates: onnx, or torch, which is twice as large and loads safetensors too.
ENGINE ?= onnx
STARTER_OUT ?= build/starter-model
VENV := .venv
BIN := $(VENV)/bin

RUN_PARTS := kernel $(addprefix plugins/,store_sql basic_api accounts admin_api backend_api models_api t2i_api diffusion starter_model)
PROJECTS := $(wildcard kernel/pyproject.toml plugins/*/pyproject.toml)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

ifeq (,$(filter onnx torch,$(ENGINE)))
$(error ENGINE is onnx or torch, not "$(ENGINE)")
endif

# An engine that was asked for is used, whatever the data folder was first used with.
ifneq (,$(filter command environment,$(firstword $(origin ENGINE))))
run: export SWARMKERNEL_BACKEND_API__ENGINE := $(ENGINE)
endif

.PHONY: run test soak lint types format bench docs starter-model clean

run: $(VENV)/.run-$(ENGINE)
	@exec $(BIN)/swarmkernel serve --port $(PORT) --data-dir $(DATA_DIR)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy $(wildcard kernel/src plugins/*/src)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	rm -rf template && $(BIN)/swarmkernel plugins new example --kind backend --into template
	$(BIN)/swarmkernel routes --format markdown > docs/routes.md
	$(BIN)/python docs/hooks.py

starter-model: $(VENV)/.dev
	cd plugins/starter_model && ../../$(BIN)/python -m training --out $(abspath $(STARTER_OUT)) --work $(abspath $(STARTER_OUT))-work

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SwarmKernel needs Python 3.11 or later; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip "setuptools>=77"

$(VENV)/.run-onnx $(VENV)/.run-torch: $(VENV)/.run-%: $(VENV)/bin/python $(PROJECTS) constraints.txt
	@echo "installing the engine $* and the server (the first time takes a minute or two)"
	$(INSTALL) --no-build-isolation $(addprefix -e ./,$(RUN_PARTS) plugins/backends_$*)
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python $(PROJECTS) constraints.txt requirements-dev.txt
	@echo "installing both engines and the tools (the first time takes a few minutes)"
	$(INSTALL) --no-build-isolation -r requirements-dev.txt $(addprefix -e ./,$(PROJECTS:/pyproject.toml=))
	@touch $@ $(VENV)/.run-onnx $(VENV)/.run-torch

clean:
	rm -rf $(VENV) build dist
