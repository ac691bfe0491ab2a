# Two commands: `make demo` trains the example, `make test` runs every test. Both make
# .venv on their first call and leave it alone after that.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow lint check golden clean

demo: $(READY)
	$(BIN)/gen run specs/movie_sentiment.toml

# A worker keeps to files that lie together, whose tests share what fixtures made.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal

slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n auto --maxprocesses 4 $(PYTEST)

# tests/golden holds that generated/ is as black lays it out.
lint: $(READY)
	$(BIN)/ruff check generator tests generated
	$(BIN)/black --check --quiet generator tests
	$(BIN)/pyright

check: $(READY)
	$(BIN)/gen check specs/*.toml

# Whatever is written by a command and committed: packages, golden files, docs.
golden: $(READY)
	$(BIN)/python -m generator.spec
	$(BIN)/gen build specs/*.toml
	GEN_REFRESH=1 $(BIN)/python -m pytest tests/passes tests/golden

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gen needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) runs
