# Each target sets up what it needs; `make` alone lists them.

PYTHON ?= $(shell tools/find-python)
BIN := .venv/bin

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-11s %s\n", $$1, $$2}'

demo: .venv/notebooks  ## download, crop, train, evaluate and package the drawn sample
	@$(BIN)/python tools/demo.py

test: .venv/test  ## pass the tests
	@$(BIN)/python -m pytest

lint: .venv/test  ## check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

notebooks: .venv/test  ## run the notebooks on the sample and keep what they show
	@$(BIN)/python tools/notebooks.py run --in-place --strict && $(BIN)/python tools/notebooks.py check

lab: .venv/notebooks  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks

clean:  ## remove the virtual environment; data/, models/ and registry/ stay
	rm -rf .venv build dist src/openimager.egg-info

.venv/bin/pip:
	@test -n "$(PYTHON)" || { tools/find-python >/dev/null; exit 1; }
	$(PYTHON) -m venv .venv

.venv/notebooks: .venv/bin/pip setup.py pyproject.toml
	@echo "Installing what the notebooks use into .venv (TensorFlow among it: some minutes, 2 GB)"
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[notebooks]"
	@touch $@

.venv/test: .venv/notebooks
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[notebooks,test]"
	@touch $@

.PHONY: help demo test lint notebooks lab clean
.DEFAULT_GOAL := help
