"""Makes a virtual environment in vendor/peers with the Python libraries that `make bench` compares Lancet with."""

from environment import make
from wheel import run

REQUIREMENTS = ["peers.txt", "libtorch-cuda.txt", "libtorch.txt"]


def main():
    what = "PyTorch, transformers, nnsight and TransformerLens (2.7 GB to download, 5.2 GB on disk)"
    make("peers", REQUIREMENTS, what, "bench")


if __name__ == "__main__":
    run(main)
