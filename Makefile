# make demo    real data through every stage to runs/demo/report.html
# make test    lint, then the fast and the slow lane of the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    ?= runs/demo

.PHONY: install demo test fast slow lint bench notebooks neo4j neo4j-stop clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: kglift needs Python 3.11 or newer, this is $$($(PYTHON) --version); run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/kglift run demo --out $(RUN)

test: lint fast slow

fast: $(READY)
	$(BIN)/python -m pytest -q -m 'not slow'

slow: $(READY)
	$(BIN)/kglift data get ml-100k
	$(BIN)/kglift data get smollm2-135m
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/kglift run demo --out $(RUN) --until bench

notebooks: $(READY)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
	$(BIN)/ruff format notebooks

neo4j: $(READY)
	$(BIN)/python -m db server start

neo4j-stop: $(READY)
	$(BIN)/python -m db server stop

clean:
	rm -rf runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
