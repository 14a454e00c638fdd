# Python is needed for set-up only; any Python 3.9 or newer with pip serves.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check bench libtorch-cuda clean

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Fetch what a build needs: libtorch and the checkpoint smollm2 (640 MB, once)
	@$(PYTHON) setup/toolchain.py
	@$(PYTHON) setup/libtorch.py
	@$(PYTHON) setup/smollm2.py

build: setup ## Build target/release/lancet
	cargo build --release

demo: build ## Run activation patching on smollm2 and write its figures to out/demo
	target/release/lancet run scripts/activation_patching.rhai --model smollm2 --task adj_comp --source few-shot --samples 20 --out out/demo

# The release profile also for tests and lints, so that the dependencies are compiled once.
test: setup ## Run all tests
	cargo test --release

check: setup ## Check the format and the lints
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings

bench: build ## Measure the speed of patching grids on smollm2
	target/release/lancet run benches/patch_grid.rhai --samples 100

libtorch-cuda: ## Fetch the libraries for NVIDIA GPUs (2.5 GB); the built binary then finds them by itself
	@$(PYTHON) setup/libtorch.py --cuda

clean: ## Remove what was built; what set-up fetched stays
	cargo clean
