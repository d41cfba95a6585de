# make demo    builds an index of the bundled corpus and searches it across languages, offline
# make test    ruff, mypy and pytest
# Both set up everything they need in .venv; only that needs the network.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format clean

demo: $(VENV)/.installed-core
	@PATH="$(abspath $(BIN)):$$PATH" sh demo/demo.sh

test: check

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not shared and not exhaustive"

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info indexes/demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) ..."
	@$(INSTALL) --editable ".[cpu,docs]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) for development (torch and the libraries for hub models and training come along) ..."
	@$(INSTALL) --editable ".[cpu,docs,hub,train,bench,postgres,dev]"
	@touch $@ $(VENV)/.installed-core
