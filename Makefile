# Only set-up needs Python: 3.9 or newer, with pip.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup build dist demo test fuzz check docs docs-pictures bench bench-gpu bench-scale bench-jobs proof libtorch-cuda clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Fetch libtorch and the checkpoint smollm2 for the build (640 MB, once)
	@$(PYTHON) setup/toolchain.py
	@$(PYTHON) setup/libtorch.py
	@$(PYTHON) setup/smollm2.py

build: setup ## Build target/release/lancet
	cargo build --release
	@$(PYTHON) setup/debug_information.py

dist: build ## Make an archive and a wheel that install Lancet elsewhere; in out/dist (a minute)
	@$(PYTHON) setup/dist.py

DEMO = --model smollm2 --task adj_comp --source few-shot --samples 100

demo: build ## Run localization and superadditivity on smollm2; figures and reports in out/demo (a few minutes)
	target/release/lancet run scripts/localization.rhai $(DEMO) --out out/demo/localization
	target/release/lancet run scripts/superadditivity.rhai $(DEMO) --out out/demo/superadditivity
	@echo 'open the reports in a browser: out/demo/localization/report.html, out/demo/superadditivity/report.html'

# Tests and lints use the release profile too, so that the dependencies are compiled once.
test: setup ## Run all tests
	cargo test --release

# FUZZ_TARGET=csv tries one target only, FUZZ_INPUTS=100000 that many inputs of each, once.
fuzz: setup ## Try new random inputs of all kinds until one is a fault or you stop it
	@set -e; round=$${FUZZ_ROUND:-$$(date +%s)}; while :; do \
		FUZZ_ROUND=$$round cargo test --release --test fuzz $$FUZZ_TARGET -- --skip campaign --nocapture; \
		[ -z "$$FUZZ_INPUTS" ] || break; \
		round=$$((round + 1)); \
	done

check: setup ## Check the format and the lints
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings

MDBOOK = vendor/mdbook-0.5.4/bin/mdbook

# Without mdbook's server and file watcher: the book is static.
$(MDBOOK):
	cargo install mdbook --version 0.5.4 --locked --no-default-features --features search --root vendor/mdbook-0.5.4

docs: build $(MDBOOK) ## Build the book in out/docs (the first time with mdbook itself, a few minutes)
	target/release/lancet doc --book docs/src/reference
	$(MDBOOK) build docs
	@echo 'open the book in a browser: out/docs/index.html'

docs-pictures: demo ## Make the pictures of the README again, from the demo
	@$(PYTHON) -m venv vendor/pictures
	@vendor/pictures/bin/pip install --quiet --require-hashes --requirement docs/pictures.txt
	vendor/pictures/bin/python docs/pictures.py target/release/lancet scripts/localization.rhai $(DEMO)

# "The capital of France is"; "Give the comparative form of the adjective. big:"
SENTENCE = 504,3575,282,4649,314
INSTRUCTION = 26533,260,15335,910,282,260,24970,30,2066,42

bench: build ## Measure grids and paths on smollm2 beside nnsight, transformers and PyTorch (2.7 GB to download, once)
	@$(PYTHON) setup/peers.py
	cargo bench --bench metrics
	target/release/lancet run benches/patch_grid.rhai --samples 100 --repeats 2 --device cpu --out out/bench/cpu
	vendor/peers/bin/python benches/peers.py out/bench/cpu
	vendor/peers/bin/python benches/path_peer.py --model smollm2 --ids $(SENTENCE) --paths 400 > out/bench/sentence.json
	target/release/lancet run benches/paths.rhai --peer out/bench/sentence.json --out out/bench/sentence
	vendor/peers/bin/python benches/path_peer.py --model smollm2 --ids $(INSTRUCTION) --paths 400 > out/bench/instruction.json
	target/release/lancet run benches/paths.rhai --peer out/bench/instruction.json --repeats 1 --out out/bench/instruction

bench-gpu: build libtorch-cuda ## The same on a GPU, on random weights in the shape of OLMo-2-1B
	@$(PYTHON) setup/peers.py
	vendor/peers/bin/python benches/random_model.py olmo2-1b out/bench/olmo2-1b
	target/release/lancet run benches/patch_grid.rhai --model out/bench/olmo2-1b --task random --samples 100 --length 8 --repeats 3 \
		--device cuda:0 --dtype bf16 --out out/bench/gpu
	vendor/peers/bin/python benches/peers.py out/bench/gpu
	target/release/lancet run benches/paths.rhai --model out/bench/olmo2-1b --prompts 100 --from 8 --keep high_ranking \
		--limit 100000000 --repeats 1 --device cuda:0 --dtype bf16 --out out/bench/gpu

bench-jobs: build ## Measure everyday jobs on smollm2 beside TransformerLens, nnsight and transformers, one thread each
	@$(PYTHON) setup/peers.py
	OMP_NUM_THREADS=1 vendor/peers/bin/python benches/job_peers.py --out out/bench/jobs

bench-scale: build ## Measure a sample of each experiment on smollm2 and compute what larger models would cost (ten minutes)
	@$(PYTHON) benches/scale.py

# ONLY=hooks compares that alone: see benches/proof/page.py.
proof: build ## Compare with outside implementations and write docs/proof.md (2.9 GB to download, once)
	@$(PYTHON) setup/proof.py
	@$(PYTHON) benches/proof/page.py $(ONLY)

libtorch-cuda: ## Fetch the libraries for NVIDIA GPUs (2.5 GB); the built binary finds them by itself
	@$(PYTHON) setup/libtorch.py --cuda

clean: ## Remove the build; keep the files that set-up fetched
	cargo clean
