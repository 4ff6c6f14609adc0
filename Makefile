# The verbs. `make` alone prints them; `make demo` and `make test` are all a new machine needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= runs/demo
# `make generate RUN=runs/mine` goes on with that run's own recipe; RECIPE=... begins with another.
FROM   = $(if $(RECIPE),--recipe $(RECIPE)) --run $(RUN)
ROUNDS ?= 200
JOBS   ?= auto
STAMP  := $(VENV)/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo characters-demo test test-quick check fmt doctor ingest usersim-train generate curate corpus \
        assistant-train report chat dashboard test-crash bench-simulate bench-dedup clean

help: ## Print the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

setup: $(STAMP) ## Install everything into .venv (CPU build, or GPU build where a GPU is found)

$(STAMP): pyproject.toml .ci/constraints-cpu.txt .ci/setup
	@PYTHON=$(PYTHON) VENV=$(VENV) .ci/setup
	@touch $@

demo: setup ## The whole path on real models and data: runs/demo/report.html at the end
	@$(BIN)/realchat run --recipe recipes/demo.yaml --run runs/demo

characters-demo: setup ## Personas, role-play and a trained character: runs/characters-demo/character.html
	@$(BIN)/realchat run --recipe recipes/characters-demo.yaml --run runs/characters-demo

ingest: setup ## Real people's conversations, cleaned and split
	@$(BIN)/realchat ingest $(FROM)
usersim-train: setup ## Train UserGPT on the turns that people typed
	@$(BIN)/realchat train-user $(FROM)
generate: setup ## Let UserGPT and the assistant talk
	@$(BIN)/realchat simulate $(FROM)
curate: setup ## Duplicates and bad conversations out, with reasons
	@$(BIN)/realchat curate $(FROM)
corpus: setup ## Parquet and a dataset card, ready for datasets and TRL
	@$(BIN)/realchat corpus $(FROM)
assistant-train: setup ## Train the assistant on the corpus
	@$(BIN)/realchat train-assistant $(FROM)
report: setup ## Write report.html
	@$(BIN)/realchat report $(FROM)
chat: setup ## Talk to a model of the run
	@$(BIN)/realchat chat --run $(RUN)
dashboard: setup ## Look at the runs in the browser: live runs, every conversation, marks of your own
	@$(BIN)/realchat dashboard runs
.PHONY: bench-dashboard
bench-dashboard: setup ## Pages and searches over a million conversations, as one JSON line
	@$(BIN)/python benchmarks/dashboard.py
doctor: setup ## What this machine has, and what to do about what is missing
	@$(BIN)/realchat doctor

check: setup ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
fmt: setup ## Let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
test-quick: setup ## The tests without engines and training
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"
test: check test-quick ## Everything: real training and the real engine included
	@$(BIN)/python -m pytest -m "slow and not gpu"
test-crash: setup ## Kill simulations, workers, nodes, drivers; fill disks; nothing may be lost or doubled
	@REALCHAT_CRASH_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/usersim/test_simulate_crash*.py \
	  tests/usersim/test_journal.py tests/pipelines/test_failures_full_disk.py tests/ray_jobs/test_fleet*.py \
	  tests/ray_jobs/test_worker.py tests/ray_jobs/test_generate.py
bench-dedup: setup ## Deduplication's speed and quality beside its peers (REALCHAT_PEERS: where they are)
	@$(BIN)/python -m benchmarks.dedup
.PHONY: bench-usergpt
bench-usergpt: setup ## How like people the UserGPT of RUN is: every bar beside floor and baseline, as JSON
	@$(BIN)/python -m benchmarks.usergpt $(RUN)
.PHONY: bench-characters
bench-characters: setup ## Is the character of RUN more itself than its base? With 10,000 personas, as JSON
	@$(BIN)/python -m benchmarks.characters $(RUN) --personas 10000
bench-simulate: setup ## Simulation's speed: the orchestration alone, then the engine against its oracles
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.orchestration
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.simulate
.PHONY: bench-filters
bench-filters: setup ## The filters on turns marked by hand, their speed, and planted benchmark questions
	@$(BIN)/python -m benchmarks.filters && $(BIN)/python -m benchmarks.decontamination
clean: ## Remove the demo run
	rm -rf runs/demo
