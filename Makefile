.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OLDEST := .venv-oldest
# Tests run in so many processes, of some 2 GB each.
JOBS ?= 2
DEMO := outputs/demo/$(shell date +%Y-%m-%d_%H-%M-%S)

.PHONY: help setup demo test test-fast test-oldest lint documents results type settings format bench wheel clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP) ## the virtual environment .venv, with the tested versions (once)

# The stamp is newer than both files while the environment is as they say.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing ddist into .venv (torch is large: this takes some minutes the first time)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP) ## distil the digits into ten images, in half a minute
	$(BIN)/ddist hydra.run.dir=$(DEMO)
	@echo "The ten digits: $(CURDIR)/$(DEMO)/distilled/grid.png"

test: $(STAMP) ## all checks: lint, types and tests
	$(MAKE) --jobs=2 lint type
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not docs'

test-fast: $(STAMP) ## the unit tests alone, in a minute or two
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not (docs or shell or slow)'

test-oldest: $(OLDEST)/.installed ## the tests with the lowest versions, in .venv-oldest
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist worksteal

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@echo "Installing the lowest versions into $(OLDEST) (a second torch: some minutes)"
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[dev]'
	touch $@

lint: $(STAMP) ## ruff, and what comments and documents have to say; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -m docs tests/test_recipes.py tests/test_results.py tests/test_links.py tests/cli/test_settings.py

documents: $(STAMP) ## what documents say: commands compose, Python runs, links lead somewhere
	$(BIN)/python -m pytest -q tests/test_documents.py tests/test_code_of_documents.py tests/test_links.py

results: $(STAMP) ## docs/results.md, coverage.md and README's table, from docs/results/
	$(BIN)/python scripts/results.py write

type: $(STAMP) ## mypy
	$(BIN)/mypy

settings: $(STAMP) ## docs/settings.md, from conf/
	$(BIN)/ddist task=settings task.page=docs/settings.md

format: $(STAMP) ## let ruff mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## outer steps per second and peak memory on this machine
	$(BIN)/python scripts/bench.py dd

wheel: $(STAMP) ## dist/*.whl
	$(BIN)/hatchling build -t wheel

clean: ## remove what can be made again quickly (keeps .venv and outputs)
	rm -rf dist .cache .mypy_cache .pytest_cache .ruff_cache
	find ddist tests scripts conf -name __pycache__ -prune -exec rm -rf {} +
