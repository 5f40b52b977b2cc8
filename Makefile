# Each target makes its own .venv; `make demo` and `make test` are all that a fresh machine needs.
VENV := .venv
PYTHON ?= python3
BIN := $(CURDIR)/$(VENV)/bin
ALL := spirals images strategies
NOTEBOOKS = $(BIN)/jupyter nbconvert --to notebook --execute --output-dir /tmp $(ALL:%=notebooks/%.ipynb)

.PHONY: demo test check figures bench clean

$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

# LDN, DDN and their rivals on spirals and on digits at a reduced size, and the figures of these runs in
# results/figures/demo
SCANS = max_depth_spirals deterministic_depth_spirals max_depth_images deterministic_depth_images strategies
demo: $(VENV)/ready
	cd experiments && for scan in $(SCANS); do \
		$(BIN)/python scan_$$scan.py 0 --quick --results ../results/demo || exit; done
	$(BIN)/python -m depthsearch.reporting results/demo
	RESULTS=$(CURDIR)/results/demo FIGURES=$(CURDIR)/results/figures/demo $(NOTEBOOKS)
	@echo "figures: results/figures/demo, numbers: results/demo/README.md"

test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# tables, results/README.md and all figures from results/runs, or from the committed tables where there are no runs
figures: $(VENV)/ready
	$(BIN)/python -m depthsearch.reporting
	$(NOTEBOOKS)

bench: $(VENV)/ready
	mkdir -p results/benchmarks
	cd results/benchmarks && for name in spirals images precision overhead; do \
		$(BIN)/python ../../benchmarks/$$name.py > $$name.tmp && mv $$name.tmp $$name.txt || exit; cat $$name.txt; done

clean:
	rm -rf $(VENV) results/demo results/figures/demo
