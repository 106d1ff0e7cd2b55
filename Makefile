# Every target creates .venv when it is missing; a second call starts at once.
PYTHON ?= python3
JOBS ?= 2
OPTIONS ?=
BIN := .venv/bin
READY := .venv/.installed
LATER := slow or multiprocess or notebooks

# More threads than workers x cores only slow the tests down.
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types later-tests table miniature bench clean

help:  ## the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --constraint constraints.txt --editable ".[dev,hub,notebooks,vlm,ocr,text,dense,mteb]"
	touch $@

demo: $(READY)  ## the whole corridor on a generated benchmark; ends with a report
	$(BIN)/mmret demo

test: $(READY)  ## the tests that take moments
	$(TESTS) -n $(JOBS) --dist worksteal -m "not ($(LATER))"

check: lint types test later-tests table  ## everything: style, types, all tests, the table

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

later-tests: $(READY)  # one after the other: they start processes of their own
	$(TESTS) -m "$(LATER)"

table: $(READY)  ## the miniature tables (missing cells only): most weights come along, LinCIR and a page encoder train
	$(BIN)/mmret table configs/tables/miniature.yaml --shipped
	$(BIN)/mmret table configs/tables/miniature_pages.yaml --seeds 1

miniature: $(READY)  ## train the miniature models from scratch and compare them with the recorded figures
	$(BIN)/mmret fit --config configs/miniature/clip.yaml
	$(BIN)/mmret miniature check --backbone runs/miniature/clip/backbone
	$(BIN)/mmret fit --config configs/miniature/pages.yaml
	$(BIN)/mmret miniature check --pages --backbone runs/miniature/pages/backbone

bench: $(READY)  ## speed and memory against peers, minutes each (a look: make bench OPTIONS=--quick)
	@for name in search sweep encode evaluate oti rtd dse triplets pages demo; do \
		printf '\n== bench/%s.py\n\n' $$name && $(BIN)/python bench/$$name.py $(OPTIONS) || exit 1; \
	done

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
