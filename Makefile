# Needs Python 3.11 or newer, pip and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
# The newest supported Python on this machine, as a command; empty where there is none but PYTHON.
NEWEST = $(shell for v in 3.13 3.12; do \
	for c in "python$$v" "env PYENV_VERSION=$$(pyenv latest $$v 2>/dev/null) python$$v"; do \
	$$c -c '' 2>/dev/null && echo "$$c" && exit; done; done)

# Byte code is kept, for the many processes of the tests compile the same sources otherwise.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -q

.PHONY: demo test lint types unit newest notebooks docs examples site typed thorough results lock clean

demo: $(VENV)/ready
	$(BIN)/python -m diffjax.train --config=configs/digits_vp.py --workdir=$(DEMO)
	$(BIN)/python -m diffjax.sample --workdir=$(DEMO)
	$(BIN)/python -m diffjax.evaluate --workdir=$(DEMO)

# Lint, types, and the suite: every noun, oracle and fault once, in its cheapest honest form.
test: lint
	@$(MAKE) --no-print-directory -j2 types unit

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/pyright

unit: $(VENV)/ready
	$(PYTEST)

# Imports, catalogues, a training, a sampling and tables on the newest Python and the newest JAX for it.
newest: requirements.lock pyproject.toml
	@if [ -z "$(NEWEST)" ]; then echo "no Python 3.12 or 3.13 here: skipped"; else \
	$(MAKE) --no-print-directory VENV=.venv-newest PYTHON="$(NEWEST)" .venv-newest/ready && \
	.venv-newest/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m newest; fi

# Products of catalogues, all published families, further real processes, every command in the docs,
# the wheel.
thorough: $(VENV)/ready
	$(PYTEST) -m thorough

# A marked part of the suite with shapes and types checked at run time.
typed: $(VENV)/ready
	$(PYTEST) -m typed --jaxtyping-packages=diffjax,"beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

# The documentation: examples in docstrings, the site in docs/_build/html, its own links.
docs: $(VENV)/ready
	@$(MAKE) --no-print-directory -j2 examples site

examples: $(VENV)/ready
	$(BIN)/pytest -q -m docs tests/test_doctests.py

site: $(VENV)/ready
	$(BIN)/python -m sphinx -q -E -W --keep-going -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python docs/links.py docs/_build/html

# All notebooks, two at a time, from the first cell to the last; changes no file. Each takes about
# 3 minutes or less on a quiet machine, which continuous integration need not be.
notebooks: $(VENV)/ready
	$(BIN)/python experiments/notebooks/run.py --limit=500 --jobs=2

# The studies of experiments/ that a CPU can make, in short settings, into runs/results.
results: $(VENV)/ready
	$(BIN)/python -m experiments.results $(STUDIES)

$(VENV)/ready: requirements.lock pyproject.toml zoo/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q -r requirements.lock || $(BIN)/pip install -q -r requirements.lock
	$(BIN)/pip install -q --no-deps -e . -e zoo
	touch $@

# Needs uv; resolves the newest tested set for every supported Python.
lock:
	uv pip compile -q --upgrade --universal --python-version 3.11 --no-emit-index-url \
	  --no-annotate --no-header --extra dev --extra docs --extra export --extra serve --extra text \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .venv-newest dist build docs/_build docs/api docs/commands docs/notebooks .pytest_cache .ruff_cache
