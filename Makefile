PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := .venv/.demo
# One process per core, up to four; the tests of a file stay together, because they share trained models.
TOGETHER := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tests start processes, which read what was compiled before, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test quick check docs results results-experiments

demo: $(DEMO)  ## the main job on embedded data: ten seeds, about two minutes on two cores
	$(BIN)/concordant run digits --seeds 10 --out runs/demo

test: $(INSTALLED)  ## all tests but the slow ones; those that need the data folder skip where it is absent
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" $(TOGETHER)

quick: $(INSTALLED)  ## the core in under a minute, while you work
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not (slow or data or compile or process or browser)" $(TOGETHER) \
	  tests/test_modalities.py tests/calibration tests/rivals tests/attach

check: $(INSTALLED)  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## the site of the documentation, in site/, with its links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "The site is in site/. To look at it: $(BIN)/python -m http.server --directory site, then open http://127.0.0.1:8000"

results: $(INSTALLED)  ## the proof, cell by cell, many hours on two cores, resumable; QUICK=1: a short one in results/quick
	$(BIN)/python -m studies.paper $(if $(QUICK),--quick)

results-experiments: $(INSTALLED)  ## the other tables under results/, resumable
	$(BIN)/python -m studies.experiments

# The environment is made anew when the constraints or the package's own needs are newer than it. The demo needs less of
# it than the tests.
define install
$(PYTHON) -c 'import sys; sys.exit("Concordant needs Python 3.11 or later; name one: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
$(PYTHON) -m venv .venv
$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(1)]'
touch $@
endef

$(DEMO): constraints.txt pyproject.toml
	$(call install,experiments)

$(INSTALLED): constraints.txt pyproject.toml
	$(call install,dev)
