# Everything sets itself up in a private environment; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
OPENID := tests/servers/openid
KAFKA := tests/servers/kafka
ON_POSTGRESQL := tests/log tests/test_scenarios.py tests/test_two_hubs.py tests/web/test_rules_over_http.py
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PACKAGES := -e . $(addprefix -e ,$(wildcard connectors/*))

# Bytecode is kept even where the environment says otherwise: the tests compile themselves in every process.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test test-servers check format lock clean

help:
	@echo "make demo          the main job on one screen (DEMO_ARGS=\"--people 500 --lang en\")"
	@echo "make test          checks and tests on SQLite, and the core on a PostgreSQL that it brings; needs no server"
	@echo "make test-servers  tests of real processes: servers killed and loaded, an OpenID provider, a Kafka broker; needs Node, npm, Java, Maven"
	@echo "make lock          pin the dependencies again, with hashes"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hub: Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "hub: no virtual environment could be made; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/run.stamp: requirements.txt pyproject.toml $(wildcard connectors/*/pyproject.toml) | $(VENV)/bin/python
	@echo "Setting up $(VENV) …"
	@$(PIP_INSTALL) --require-hashes -r requirements.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation $(PACKAGES)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Setting up the tests' tools …"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/run.stamp
	@$(BIN)/hub demo $(DEMO_ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hub schemas check schemas/avro $(wildcard connectors/*/src/*/avro)

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal
	HUB_TEST_DATABASE=postgresql $(BIN)/python -m pytest -n 2 --dist worksteal $(ON_POSTGRESQL)

$(OPENID)/node_modules/.stamp: $(OPENID)/package-lock.json
	@command -v npm >/dev/null || { echo "hub: Node and npm are needed; on Debian: apt-get install nodejs npm"; exit 1; }
	@echo "Setting up the OpenID provider …"
	@cd $(OPENID) && npm ci --silent
	@touch $@

$(KAFKA)/libs/.stamp: $(KAFKA)/pom.xml
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "hub: Java 17 and Maven are needed; on Debian: apt-get install default-jre-headless maven"; exit 1; }
	@echo "Setting up the Kafka broker …"
	@rm -rf $(KAFKA)/libs
	@mvn -q -B -f $(KAFKA)/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs
	@touch $@

test-servers: $(VENV)/dev.stamp $(OPENID)/node_modules/.stamp $(KAFKA)/libs/.stamp
	HUB_TEST_SERVERS=require $(BIN)/python -m pytest tests/servers
	HUB_TEST_DATABASE=postgresql HUB_TEST_WORLDS=all $(BIN)/python -m pytest -n 2 --dist worksteal tests

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet pip-tools
	for name in requirements requirements-dev; do \
	  $(VENV)/lock/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	    --no-header --no-annotate --allow-unsafe --strip-extras --output-file $$name.txt $$name.in; done

clean:
	rm -rf $(VENV) $(OPENID)/node_modules $(KAFKA)/libs .mypy_cache .pytest_cache .ruff_cache .hypothesis
