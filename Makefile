# Each target makes its own .venv; `make demo` and `make test` are all that a fresh machine needs.
#   make test LOCKED=1   with the exact versions behind the committed results (requirements.lock)
#   make test FLOORS=1   with the oldest versions that requirements.txt admits
PYTHON ?= python3
VENV := $(if $(FLOORS),.venv-floors,$(if $(LOCKED),.venv-locked,.venv))
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/pip install --no-compile --quiet --disable-pip-version-check -r requirements.txt
DEMO := $(CURDIR)/results/demo
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
EXECUTE = $(BIN)/jupyter nbconvert --to notebook --execute

.PHONY: demo demo-shown demo-logged test quick check figures paper bench clean

# Compiled on all cores, where pip takes one; what some packages hold for other Pythons does not compile.
$(VENV)/ready: requirements.txt requirements-dev.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	sed -n 's/>=/==/p' requirements.txt > $(VENV)/floors.txt
	$(PIP) $(if $(FLOORS),-c $(VENV)/floors.txt,$(if $(LOCKED),-c requirements.lock)) -r requirements-dev.txt
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true
	touch $@

# LDN, DDN and their rivals on spirals and on digits at a reduced size, searches of a cell, on digits and on a generated
# text also trained beside random ones, the neural predictor, and the figures of these runs. Two scans at a time: one of
# them shows how it goes, the other writes to a log.
SHOWN = max_depth_spirals deterministic_depth_spirals strategies
LOGGED = max_depth_images deterministic_depth_images nasbench201 predictor
QUICK = cd experiments && for scan in $(1); do $(BIN)/python scan_$$scan.py 0 --quick --results $(DEMO) || exit; done
SMALL = 0 --quick --repeats 1 --epochs 2 --results $(DEMO)
TRAINED = $(BIN)/python scan_darts_cells.py $(SMALL) --channels 4 --strategies DARTS && \
	$(BIN)/python train_genotype.py $(SMALL) --channels 2 --train-images 300 --test-images 200 \
		--genotype $(DEMO)/runs/scan_darts_cells/*/*/version_* random:0 random:1 DARTS_V2 && \
	$(BIN)/python scan_recurrent_cells.py $(SMALL) --strategies DARTS && \
	$(BIN)/python train_genotype.py $(SMALL) --data-set generated \
		--genotype $(DEMO)/runs/scan_recurrent_cells/*/*/version_* random:0 random:1 LSTM
demo: $(VENV)/ready
	$(MAKE) --no-print-directory -j 2 demo-shown demo-logged
	$(BIN)/python -m depthsearch.reporting results/demo
	printf '%s\n' $(NOTEBOOKS) | RESULTS=$(DEMO) FIGURES=$(DEMO)/figures xargs -n 1 -P 2 \
		$(EXECUTE) --output-dir $(DEMO)/notebooks
	@echo "figures: results/demo/figures, numbers: results/demo/README.md"
demo-shown:
	$(call QUICK,$(SHOWN))
demo-logged:
	mkdir -p $(DEMO)
	@echo "at the same time, in results/demo/log: $(LOGGED), cells trained from scratch"
	@($(call QUICK,$(LOGGED)) && $(TRAINED)) > $(DEMO)/log 2>&1 || { cat $(DEMO)/log; exit 1; }

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

# every scan of the paper, then the figures; `make paper --dry-run` says what, how long and where the data are
DEVICE ?= 0
paper:
	+@test -e $(VENV)/ready || $(MAKE) MAKEFLAGS= $(VENV)/ready
	+@cd experiments && $(BIN)/python paper.py $(DEVICE) $(if $(findstring n,$(firstword -$(MAKEFLAGS))),--dry-run) \
		|| { status=$$?; [ $$status = 1 ] && $(MAKE) -C .. figures; exit $$status; }
	$(MAKE) figures

bench: $(VENV)/ready
	mkdir -p results/benchmarks
	cd results/benchmarks && for name in spirals images precision overhead start predictor nasbench201 cells recurrent second_order; do \
		$(BIN)/python ../../benchmarks/$$name.py > $$name.tmp && mv $$name.tmp $$name.txt || exit; cat $$name.txt; done

clean:
	rm -rf .venv .venv-floors .venv-locked results/demo results/notebooks
