# Needs make and one Python >= 3.11. PYTHON is tried in order; the first that is new enough makes .venv.
PYTHON ?= python3.13 python3.12 python3.11 python3
PORT ?= 8000
# More than there are cores: most tests wait for something most of the time.
JOBS ?= 3
CHAOS_ROUNDS ?= 10
SOAK_SECONDS ?= 600
BENCH ?= durable

BIN = .venv/bin
CLIENTS = tests/interop/node_modules
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install run test chaos soak bench check fix
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

install: .venv/stamp-dev $(CLIENTS)/.stamp ## make .venv with everything needed to work here

run: .venv/stamp-run ## serve the chat page on http://127.0.0.1:8000 (another port: make run PORT=9000)
	@$(BIN)/tailrace serve --host 127.0.0.1 --port $(PORT)

test: install ## run every test (some of them: make test ARGS=tests/unit; one after the other: make test JOBS=0)
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadscope $(ARGS)

chaos: .venv/stamp-dev ## kill and stop real servers, 200 rounds and more (shorter: make chaos CHAOS_ROUNDS=2)
	CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(BIN)/pytest -m chaos tests/chaos $(ARGS)

soak: .venv/stamp-dev ## load servers for ten minutes and see that nothing grows (shorter: make soak SOAK_SECONDS=20)
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -m soak tests/soak $(ARGS)

bench: .venv/stamp-dev ## measure runs through Redis beside a naive way (what adapters cost: make bench BENCH=adapters)
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

check: .venv/stamp-dev ## check format, lint, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: .venv/stamp-dev ## repair what a tool can repair, and format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(BIN)/python:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making .venv with $$python ($$("$$python" --version))"; \
	    exec "$$python" -m venv --clear .venv; \
	  fi; \
	done; \
	echo "No Python >= 3.11 with venv among: $(PYTHON)." >&2; \
	echo "Name one with: make PYTHON=/path/to/python3. On Debian and Ubuntu venv is in the package python3-venv." >&2; \
	exit 1

# The server alone needs no tools, so that the first `make run` is short.
.venv/stamp-run: pyproject.toml $(BIN)/python
	@echo "Installing tailrace into .venv"
	@$(PIP) --editable '.[chat]'
	@touch $@

# `--group` needs pip 25.1. What this installs is enough to run the server too.
.venv/stamp-dev: pyproject.toml $(BIN)/python
	@echo "Installing tailrace and its tools into .venv"
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) --editable '.[all]' --group dev
	@touch .venv/stamp-run $@

# The clients that the dialects are proven with. Without npm their tests are skipped.
$(CLIENTS)/.stamp: tests/interop/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
	  echo "Installing clients from npm into $(CLIENTS)"; \
	  cd tests/interop && npm ci --ignore-scripts --loglevel=error; \
	else rmdir $(@D); fi
	@! [ -d $(@D) ] || touch $@
