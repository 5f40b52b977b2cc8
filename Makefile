# Each target makes its own .venv; `make demo` and `make test` are all that a fresh machine needs.
#   make test LOCKED=1   with the exact versions behind the committed results (requirements.lock)
#   make test FLOORS=1   with the oldest versions that requirements.txt admits
PYTHON ?= python3
VENV := $(if $(FLOORS),.venv-floors,$(if $(LOCKED),.venv-locked,.venv))
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
DEMO := $(CURDIR)/results/demo
ALL := spirals images strategies cells predictor
NOTEBOOKS = $(ALL:%=notebooks/%.ipynb)
EXECUTE = $(BIN)/jupyter nbconvert --to notebook --execute

.PHONY: demo test quick check figures bench clean

$(VENV)/ready: requirements.txt requirements-dev.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	sed -n 's/>=/==/p' requirements.txt > $(VENV)/floors.txt
	$(PIP) $(if $(FLOORS),-c $(VENV)/floors.txt,$(if $(LOCKED),-c requirements.lock)) -r requirements-dev.txt
	touch $@

# LDN, DDN and their rivals on spirals and on digits at a reduced size, searches of a cell, the neural predictor; figures
SCANS = max_depth_spirals deterministic_depth_spirals max_depth_images deterministic_depth_images strategies \
	nasbench201 predictor
demo: $(VENV)/ready
	cd experiments && for scan in $(SCANS); do \
		$(BIN)/python scan_$$scan.py 0 --quick --results $(DEMO) || exit; done
	$(BIN)/python -m depthsearch.reporting results/demo
	RESULTS=$(DEMO) FIGURES=$(DEMO)/figures $(EXECUTE) --output-dir $(DEMO)/notebooks $(NOTEBOOKS)
	@echo "figures: results/demo/figures, numbers: results/demo/README.md"

TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal
test: $(VENV)/ready
	$(TESTS)

# for somebody who edits: what takes less than a few seconds a test
quick: $(VENV)/ready
	$(TESTS) -m "not slow"

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# tables, results/README.md and all figures, from the committed tables and what is new in results/runs
figures: $(VENV)/ready
	$(BIN)/python -m depthsearch.reporting
	$(EXECUTE) --output-dir $(CURDIR)/results/notebooks $(NOTEBOOKS)

bench: $(VENV)/ready
	mkdir -p results/benchmarks
	cd results/benchmarks && for name in spirals images precision overhead start; do \
		$(BIN)/python ../../benchmarks/$$name.py > $$name.tmp && mv $$name.tmp $$name.txt || exit; cat $$name.txt; done

clean:
	rm -rf .venv .venv-floors .venv-locked results/demo results/notebooks
