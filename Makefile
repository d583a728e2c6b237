# make demo    real data through every stage to runs/demo/report.html
# make test    lint, then the fast and the slow lane of the tests
# make bench   training and evaluation beside PyG, RecBole and others (python -m gnn bench --help)
# make compare the models of the demo's plan, with and without what the LLM said
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    ?= runs/demo
PEERS  := .bench-venv
DATA   ?= ../shared/data/gowalla-lightgcn
ROWS   ?= runs/bench.json

.PHONY: install demo test fast slow lint bench compare notebooks neo4j neo4j-stop clean

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
	$(BIN)/python -m pytest -q -n auto -m 'not slow'

slow: $(READY)
	$(BIN)/kglift data get ml-100k
	$(BIN)/kglift data get smollm2-135m
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@$(MAKE) --no-print-directory $(PEERS)/.ready || echo 'not all peers could be installed: their rows say so'
	$(BIN)/python -m gnn bench --data $(DATA) --json $(ROWS)

# over the environment of kglift, so that peers run with the same torch and NumPy as ours
$(PEERS)/.ready: requirements-bench.txt $(READY)
	$(BIN)/python -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kglift.pth"
	grep -v '^#' requirements-bench.txt | \
	  xargs -n 1 $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
	@touch $@

compare: $(READY)
	$(BIN)/kglift run demo --out $(RUN) --until bench

notebooks: $(READY)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
	$(BIN)/ruff format notebooks

# with Docker the service of docker-compose.yml, whose password is in .env; without Docker the jars of Maven Central
neo4j: $(READY)
	@if docker info >/dev/null 2>&1; then docker compose up -d --wait; else $(BIN)/python -m db server start; fi

neo4j-stop: $(READY)
	@if docker info >/dev/null 2>&1; then docker compose stop; else $(BIN)/python -m db server stop; fi

clean:
	rm -rf runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
