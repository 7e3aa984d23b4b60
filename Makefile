# Everything runs in .venv, which `make install` makes from requirements.lock. UV=1 uses uv instead of pip.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
EXTRAS := textworld,train
OUT ?= demo-out

.PHONY: install demo test test-all bench lint lock clean

install: .venv/.installed

.venv/.installed: pyproject.toml requirements.lock
	$(if $(UV),uv venv --clear --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	$(INSTALL) -q -r requirements.lock
	$(INSTALL) -q --no-deps -e .
	touch $@

demo: install ## the main job: train, evaluate, submit, verify, build the board
	$(BIN)/python recipes/demo.py $(OUT)

test: install ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n 2 -q

test-all: install ## the slow ones too: soaks, long trainings, real peers
	$(BIN)/python -m pytest -q

bench: install ## speed and memory, as ratios against the peers
	$(BIN)/python -m pytest tests/benchmarks -o python_files="bench_*.py" -q -s

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright

# nvidia-*, cuda-* and triton come with the torch build that the platform's index serves; a CPU build needs none.
lock: ## resolve again: needs uv
	uv pip compile -q --universal --python-version 3.10 --no-annotate --no-header --no-emit-index-url \
		$(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) --group dev \
		--constraint constraints.txt pyproject.toml \
		| grep -v -E '^(nvidia-|cuda-|triton)' > requirements.lock

comma := ,

clean:
	rm -rf .venv build dist demo-out
