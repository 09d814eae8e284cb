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
JS = js/client
JS_SOURCES = $(shell find $(JS)/src -name '*.ts*' 2>/dev/null) $(JS)/tsdown.config.ts $(JS)/package.json
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install run test chaos soak bench check fix sizes schema
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

install: .venv/stamp-dev $(CLIENTS)/.stamp $(JS)/dist/.stamp ## make .venv with everything needed to work here

run: .venv/stamp-run ## serve the chat page on http://127.0.0.1:8000 (another port: make run PORT=9000)
	@$(BIN)/tailrace serve --host 127.0.0.1 --port $(PORT)

test: install ## run every test (some of them: make test ARGS=tests/unit; one after the other: make test JOBS=0)
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadscope $(ARGS)

chaos: .venv/stamp-dev ## kill and stop real servers, 200 rounds and more (shorter: make chaos CHAOS_ROUNDS=2)
	CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(BIN)/pytest -m chaos tests/chaos $(ARGS)

soak: .venv/stamp-dev ## load servers for ten minutes and see that nothing grows (shorter: make soak SOAK_SECONDS=20)
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -m soak tests/soak $(ARGS)

bench: .venv/stamp-dev ## measure runs through Redis beside a naive way (others: make bench BENCH=adapters, BENCH=parsers)
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

sizes: $(JS)/node_modules/.stamp ## what the npm package costs a page, beside its budgets
	cd $(JS) && npm run --silent sizes

schema: .venv/stamp-dev ## write what is generated from the events: their JSON Schema and TypeScript
	$(BIN)/python -m tools.event_schema

check: .venv/stamp-dev $(JS)/node_modules/.stamp ## check format, lint, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	@! command -v npm >/dev/null || (cd $(JS) && npm run --silent check)

fix: .venv/stamp-dev $(JS)/node_modules/.stamp ## repair what a tool can repair, and format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	@! [ -d $(JS)/node_modules ] || (cd $(JS) && npm run --silent fix)

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

# The npm package: what it is made with, and what is made of it.
$(JS)/node_modules/.stamp: $(JS)/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
	  echo "Installing what the npm package is made with into $(@D)"; \
	  cd $(JS) && npm ci --ignore-scripts --loglevel=error; \
	else rmdir $(@D); fi
	@! [ -d $(@D) ] || touch $@

$(JS)/dist/.stamp: $(JS)/node_modules/.stamp $(JS_SOURCES)
	@if [ -d $(JS)/node_modules ]; then \
	  echo "Building the npm package"; \
	  cd $(JS) && npm run --silent build >/dev/null; \
	fi
	@! [ -d $(@D) ] || touch $@
