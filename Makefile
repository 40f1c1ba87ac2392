# Two commands do everything on a fresh clone: `make book` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/installed

.PHONY: help book test test-book demo bench release lint clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

book: $(READY)  ## execute every chapter and build the HTML book; any warning fails
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "Open _build/html/index.html"

test: $(READY)  ## run the whole suite: library, docstrings, checks, notebooks, nbgrader round trip
	$(BIN)/python -m pytest -n auto --dist loadfile

test-book: $(READY)  ## look through the pages that `make book` built
	$(BIN)/python -m pytest tests/test_book.py

demo: $(READY)  ## grade a small made-up class and show its grades and feedback
	$(BIN)/coursekit demo

bench: $(READY)  ## time the library against torch.nn in one process and write benchmarks/results/
	$(BIN)/python -m benchmarks

release: $(READY)  ## regenerate the notebooks of solutions/ and exercises/ from solutions/*.py
	$(BIN)/python -m coursekit.authoring release

lint: $(READY)  ## check style
	$(BIN)/ruff check .

clean:  ## remove what was built; keep .venv
	rm -rf _build demo
