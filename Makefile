# Each target sets up what it needs (once), then does its job. See tools/bootstrap.py.
#   make test VENV=/path/to/environment     use that virtual environment instead of .venv
#   make test PYTHON=/path/to/python        use that interpreter's environment instead of .venv
#   make test JOBS=4                        run the tests in four processes instead of two
#   make demo MODEL=mask2former             train Mask2Former instead of Panoptic FPN
#   make test ARGS="-k dice"                further arguments for the command that the target runs

BASE_PYTHON := $(or $(PYTHON),$(shell command -v python3 || command -v python || echo python3))
IN_ENVIRONMENT = $(BASE_PYTHON) tools/bootstrap.py
# Tests run in as many processes as JOBS says; each holds up to 3 GB.
JOBS ?= 2
PYTEST = --extras test -- -m pytest --numprocesses $(JOBS) --dist worksteal

.PHONY: demo test quick long lint benchmark docs setup help
.NOTPARALLEL:

help:
	@echo "make demo       train a model on synthetic pictures, score it and draw what it sees; MODEL=mask2former: that one"
	@echo "make test       run the test suite (all but the tests marked long)"
	@echo "make quick      run the tests that are neither slow, nor of a browser, recorded models or a GPU"
	@echo "make long       run the tests marked long"
	@echo "make lint       run ruff (rules and format), codespell and mypy"
	@echo "make benchmark  measure speed and memory beside transformers, torchvision, Detectron2"
	@echo "make docs       build the pages of docs/ as a site in output/site, checking every link"
	@echo "make setup      only set up the environment"

demo:
	@$(IN_ENVIRONMENT) -- tools/demo_run.py $(if $(MODEL),--model $(MODEL)) $(ARGS)

test:
	@$(IN_ENVIRONMENT) $(PYTEST) -m "not long" $(ARGS)

quick:
	@$(IN_ENVIRONMENT) $(PYTEST) -m "not (slow or browser or parity or gpu or long)" $(ARGS)

long:
	@$(IN_ENVIRONMENT) $(PYTEST) -m long $(ARGS)

lint:
	@$(IN_ENVIRONMENT) --extras lint,test -- -m ruff check .
	@$(IN_ENVIRONMENT) --extras lint,test -- -m ruff format --check .
	@$(IN_ENVIRONMENT) --extras lint,test -- -m codespell_lib
	@$(IN_ENVIRONMENT) --extras lint,test -- -m mypy
	@$(IN_ENVIRONMENT) --extras lint,test -- -m mypy --config-file embedded/pyproject.toml

benchmark:
	@$(IN_ENVIRONMENT) --extras benchmark -- tools/benchmark.py $(ARGS)

docs:
	@$(IN_ENVIRONMENT) --extras docs -- -m mkdocs build --strict $(ARGS)

setup:
	@$(IN_ENVIRONMENT)
