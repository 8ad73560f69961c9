# Each target sets up what it needs; nothing has to be done before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo human-demo test slow check site baselines bench training-numbers clean

setup: $(READY)

# torch comes first and alone: whatever depends on it then takes this build and no larger one.
$(READY): pyproject.toml constraints/main.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints/main.txt --editable ".[train,postgres,ray,dev]"
	touch $@

demo: $(READY)
	$(BIN)/hebench demo

# A study with real outputs: prints a link to rate and one to the dashboard.
human-demo: $(READY)
	$(BIN)/hebench human demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hebench tasks check

# From the committed results to leaderboard/site/, every number checked against them.
site: $(READY)
	$(BIN)/hebench board build
	$(BIN)/hebench board verify

baselines: $(READY)
	$(BIN)/python benchmarks/baselines.py

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/stats_speed.py
	$(BIN)/python benchmarks/site.py
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/packing.py

# The run that docs/training.md describes and the benchmarks that it names, in hours, on two cores.
# TEXT: a folder with corpus-he/ and corpus-en/.
TEXT ?= ../shared/data
RUN ?= runs/he
training-numbers: $(READY)
	$(BIN)/hebench adapt smollm2_he_cpu text=$(TEXT) out=$(RUN)
	$(BIN)/python benchmarks/tokenizer.py $(RUN)/corpus
	$(BIN)/python benchmarks/adapt.py $(RUN)/corpus $(RUN)/tokenizer/tokenizer
	$(BIN)/python benchmarks/corpus.py $(TEXT)/corpus-he
	$(BIN)/python benchmarks/packing.py

clean:
	rm -rf $(VENV) runs leaderboard/site build dist *.egg-info
