# Everything runs in .venv, which `make install` makes from requirements.lock. UV=1 uses uv instead of pip.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
EXTRAS := textworld,train,endpoint,scienceworld,express,minari,ray,sb3,serve,mysql,plot,docs
OUT ?= demo-out
GAMES ?= $(or $(PROSEGYM_TEST_DATA),../shared/data)/alfworld/json_2.1.1.tar.xz
SHOP ?= $(or $(PROSEGYM_TEST_DATA),../shared/data)/webshop
ORIGINAL ?= ../WebShop
ORIGINALS ?= ..
SERVER ?= mysql://root@localhost:3306

.PHONY: install demo board test test-all bench bench-alfworld bench-shop fuzz-alfworld fuzz-webshop fuzz-questions fuzz-intercode fuzz-mysql fuzz-java fuzz-textworld docs docs-serve lint lock clean

install: .venv/.installed

.venv/.installed: pyproject.toml requirements.lock
	$(if $(UV),uv venv --clear --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	$(INSTALL) -q -r requirements.lock
	$(INSTALL) -q --no-deps -e .
	touch $@

demo: install ## the main job: train, evaluate, submit, verify, build the board
	$(BIN)/python recipes/demo.py "$(OUT)"

test: install ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n 2 -q

test-all: install ## the slow ones too: soaks, long trainings, real peers
	$(BIN)/python -m pytest -q

bench: install ## speed and memory, as ratios against the peers
	$(BIN)/python -m pytest tests/benchmarks -o python_files="bench_*.py" -q -s

bench-alfworld: install ## our ALFWorld engine beside the real one, on the same games
	$(BIN)/python -m pytest tests/benchmarks/bench_alfworld.py -o python_files="bench_*.py" -q -s

bench-shop: install ## the shop at WebShop's full size, on a generated catalogue (minutes, the first time)
	$(BIN)/python tests/benchmarks/bench_shop_full.py

fuzz-alfworld: ## our ALFWorld engine against TextWorld's, in an environment of its own: GAMES=archive or folder
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install -q -e . "textworld[pddl]==1.7.*"
	.venv-fuzz/bin/python tests/fuzz/fuzz_alfworld.py --games $(GAMES) --steps 50000

fuzz-webshop: ## our WebShop against the original's code, as above: ORIGINAL=checkout of princeton-nlp/WebShop at 64fa2a5, SHOP=its files
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install -q -e . beautifulsoup4 flask "thefuzz==0.19.0"
	.venv-fuzz/bin/python tests/fuzz/fuzz_webshop.py --original $(ORIGINAL) --data $(SHOP) --steps 15000

fuzz-questions: ## our question environments against the originals' code, as above: ORIGINALS=folder of the checkouts that its head names
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install -q -e . beautifulsoup4
	.venv-fuzz/bin/python -m pip install -q --no-deps "langchain==0.0.162"
	.venv-fuzz/bin/python tests/fuzz/fuzz_questions.py --originals $(ORIGINALS) --steps 100000

fuzz-intercode: install ## our InterCode-SQL's rewards and episodes against the original's code: ORIGINAL=checkout of princeton-nlp/intercode at c3e46d8
	$(BIN)/python tests/fuzz/fuzz_intercode.py --original $(ORIGINAL) --steps 100000

fuzz-mysql: ## our InterCode-SQL's engine against a real MySQL 8.0 that holds its dump, in an environment of its own: SERVER=URL
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install -q -e . "mysql-connector-python==8.0.33"
	.venv-fuzz/bin/python tests/fuzz/fuzz_mysql.py --server "$(SERVER)" --statements 20000

fuzz-java: install ## our ScienceWorld and TextWorld-Express against the packages' own environments
	$(BIN)/python tests/fuzz/fuzz_scienceworld.py --steps 4000
	$(BIN)/python tests/fuzz/fuzz_express.py --steps 50000

fuzz-textworld: install ## what our mended tracker of TextWorld's games holds for the world against the games' own
	$(BIN)/python tests/fuzz/fuzz_textworld.py --steps 20000

board: install ## the leaderboard of submissions/, in site-board/
	$(BIN)/prosegym board build --submissions submissions --out site-board

docs: install ## the site, in site/, the board in site/board/; a broken link or a page without its facts fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: install ## the site but for the board at http://127.0.0.1:8000, made anew as pages change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

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
	rm -rf .venv build dist site site-board demo-out
