# make reproduce   regenerate every figure and table at profile quick, write the report, say where it lies
# make test        all tests
# Both create .venv and install the pinned dependencies the first time. PYTHON names another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROFILE ?= quick

.PHONY: reproduce test install lab export help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing into $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

reproduce: $(STAMP)
	@$(BIN)/thesis-ebm reproduce --profile $(PROFILE)

test: $(STAMP)
	@$(BIN)/python -m pytest -n auto --dist worksteal

# make lab         JupyterLab on the notebooks
lab: $(STAMP)
	@$(BIN)/jupyter lab nbs

# make export      after editing notebooks: regenerate the package, clean the notebooks
export: $(STAMP)
	@$(BIN)/nbdev-export && $(BIN)/nbdev-clean
