# Each target installs what it needs; `make` alone lists them.

PYTHON ?= $(shell tools/find-python)
BIN := .venv/bin
# One worker per processor, four at most; a file's tests stay together, slow files come first.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
RELEASE ?= v4
# Many container images set this variable. TensorFlow's modules would then be compiled at every start: 7 s.
export PYTHONDONTWRITEBYTECODE :=

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-11s %s\n", $$1, $$2}'

demo: .venv/notebooks  ## download, crop, train, evaluate and package the drawn sample
	@$(BIN)/python tools/pipeline.py "Cat,Dog" --release sample $(if $(filter 1,$(REPLACE)),--replace)

all: .venv/notebooks  ## the same for CATEGORIES="Hamburger,Sandwich" RELEASE=v4 LIMIT=1500
	@$(BIN)/python tools/pipeline.py "$(CATEGORIES)" --release "$(RELEASE)" --options "$(OPTIONS)" \
		$(if $(LIMIT),--limit $(LIMIT)) $(if $(BACKBONE),--backbone $(BACKBONE)) \
		$(if $(filter 1,$(REPLACE)),--replace)

test: .venv/test  ## run all tests
	@$(PYTEST)

test-fast: .venv/test  ## run the tests without notebooks, browser, training, cluster and S3
	@$(PYTEST) -m "not slow"

lint: .venv/test  ## check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

notebooks: .venv/test  ## run the notebooks on the sample and keep their outputs in git
	@$(BIN)/python tools/notebooks.py run --in-place --strict && $(BIN)/python tools/notebooks.py check

lab: .venv/notebooks lab/initial-exploration.ipynb  ## open copies of the notebooks in JupyterLab
	@$(BIN)/jupyter lab lab

# Copies, so that running them leaves no changes in git; beside notebooks/, so that paths hold.
lab/initial-exploration.ipynb:
	@mkdir -p lab && cp notebooks/*.ipynb lab/
	@echo "lab/ holds your own copies of the notebooks; remove it to begin anew."

clean:  ## remove the virtual environment; data/, models/, registry/ and lab/ stay
	rm -rf .venv build dist src/openimager.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || { tools/find-python >/dev/null; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/notebooks: setup.py pyproject.toml | .venv/bin/python
	@tools/install notebooks "TensorFlow, Jupyter, quilt3 and others, about 2.5 GB"
	@touch $@

.venv/test: setup.py pyproject.toml | .venv/notebooks
	@tools/install notebooks,test "what the tests need, about 1 GB more"
	@touch $@

.PHONY: help demo all test test-fast lint notebooks lab clean
.DEFAULT_GOAL := help
