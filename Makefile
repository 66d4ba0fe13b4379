PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check

.PHONY: demo test test-all lint app lock
.DEFAULT_GOAL := demo

# One environment for everything; made again when what it is made from changes. torch comes last:
# its build (CPU or CUDA) differs from machine to machine, so it has a version but no hash.
$(VENV)/ready: pyproject.toml requirements.lock constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) -c constraints.txt torch
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/ready
	$(BIN)/uncus demo

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

app: $(VENV)/ready
	$(BIN)/uncus app

# Pins with hashes for Linux and macOS: all that is developed with, and what the images contain.
# Versions stay where they can (make lock UPGRADE=--upgrade takes the newest). What only torch's CUDA
# build needs is in a file of its own, with that build ("===").
COMPILE = $(VENV)/lock/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(UPGRADE) pyproject.toml
WITHOUT_CUDA = awk '/^[a-z]/ { keep = !/^(cuda|nvidia)-|^torch==/ } /^\#/ || keep'
CUDA_ALONE = awk '/^[a-z]/ { keep = /^(cuda|nvidia)-|^(torch|triton)==/ } /^\#/ || keep' \
	| sed 's/^torch==/torch===/'

lock:
	test -x $(VENV)/lock/bin/uv || $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install -q --disable-pip-version-check uv
	cp requirements.lock $(VENV)/lock/all && cp docker/requirements.lock $(VENV)/lock/images
	$(COMPILE) -c constraints.txt --extra dev -o $(VENV)/lock/all
	$(WITHOUT_CUDA) $(VENV)/lock/all > requirements.lock
	$(COMPILE) -c constraints.txt -c requirements.lock --no-emit-package triton \
		--extra app --extra fast -o $(VENV)/lock/images
	$(WITHOUT_CUDA) $(VENV)/lock/images > docker/requirements.lock
	$(COMPILE) -c constraints.txt -c requirements.lock -o $(VENV)/lock/cuda
	cat $(VENV)/lock/cuda | $(CUDA_ALONE) > docker/gpu.lock
