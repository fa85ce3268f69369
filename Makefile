# What a developer does here. `make demo` and `make test` need nothing but Python 3.10 or newer.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= 5
# tests wait for processes more than they compute: one more of them than there are cores
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))
# `make test EXTRAS=dev` goes without DALI and the libraries that train, and so without their tests
EXTRAS ?= dev,dali,frameworks
BUSY ?=

bin := $(VENV)/bin
installed := $(VENV)/.speedprof-$(EXTRAS)
wheel := build/wheel
demo_data := demo-data/shapes
pytest := $(bin)/python -m pytest -q
beside := -n $(WORKERS) --dist worksteal # tests that may run at the same time
alone := $(shell grep -l "mark.alone" tests/test_*.py) # collecting all other files takes longer

.DEFAULT_GOAL := help
.PHONY: help demo test check test-fast test-slow bench planted catalogue clean

help:
	@echo "make demo      profile examples/imagefolder.py and write a report"
	@echo "make test      lint, types, every test, and last those that have to run alone"
	@echo "make check     lint and types alone"
	@echo "make bench     overhead and truth, into benchmarks/results (two hours)"
	@echo "make planted   every planted bottleneck RUNS=5 times, with BUSY=1 on a busy machine"
	@echo "make catalogue write docs/catalogue.md from the remedies' cards"
	@echo "make clean     remove what these made, the virtual environment included"

$(installed): pyproject.toml
	test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

demo: $(installed)
	$(bin)/python examples/imagefolder.py --data $(demo_data) --epochs 0
	$(bin)/speedprof run --python $(bin)/python \
		examples/imagefolder.py --data $(demo_data) --workers 0 --epochs 9 --steps 150

test: check
	$(pytest) $(beside) -m "not alone"
	$(pytest) -m alone $(alone)

# The package is the root folder, so its types are checked where it looks like a package: in its wheel.
check: $(installed)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	rm -rf build
	$(bin)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(wheel) .
	cd $(wheel) && $(abspath $(bin))/mypy --config-file $(CURDIR)/pyproject.toml -p speedprof

test-fast: $(installed)
	$(pytest) $(beside) -m "not slow"

test-slow: $(installed)
	$(pytest) $(beside) -m "slow and not alone"
	$(pytest) -m alone $(alone)

bench: $(installed)
	$(bin)/python benchmarks/overhead.py --out benchmarks/results
	$(bin)/python benchmarks/truth.py --out benchmarks/results

planted: $(installed)
	$(bin)/python tests/planted.py --runs $(RUNS) $(if $(BUSY),--busy)

catalogue: $(installed)
	$(bin)/speedprof explain --markdown > docs/catalogue.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-data
