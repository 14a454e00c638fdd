"""Makes a virtual environment in vendor/peers with the Python libraries that `make bench` compares Lancet with."""

import hashlib
import os
import subprocess
import sys

from wheel import HERE, SetupError, replacing, run

FINAL = HERE.parent / "vendor" / "peers"
REQUIREMENTS = ["peers.txt", "libtorch-cuda.txt", "libtorch.txt"]
OLDEST, NEWEST = (3, 11), (3, 14)


def wanted():
    """The identity of the wanted environment: the pins and the Python."""
    pins = b"".join((HERE / name).read_bytes() for name in REQUIREMENTS)
    return "{} {}.{}\n".format(hashlib.sha256(pins).hexdigest(), *sys.version_info)


def main():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            "the libraries that Lancet is compared with need Python {}.{} to {}.{}, and this is {}.{}\n"
            "hint: name another one, `make bench PYTHON=python3.12`".format(*OLDEST, *NEWEST, *sys.version_info)
        )
    made_from = FINAL / "made-from"
    if made_from.is_file() and made_from.read_text() == wanted():
        print("peers: vendor/peers is there already")
        return
    print("peers: fetching PyTorch, transformers, nnsight and TransformerLens (2.7 GB to download, 5.2 GB on disk)")
    with replacing(FINAL) as scratch:
        # Only `bin/python` is used; it finds its environment even after a move.
        if subprocess.run([sys.executable, "-m", "venv", str(scratch)]).returncode != 0:
            raise SetupError(
                "{} cannot make a virtual environment\nhint: install its venv module "
                "(Debian, Ubuntu: `apt-get install python3-venv`)".format(sys.executable)
            )
        pip = [str(scratch / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--require-hashes"]
        command = pip + ["--only-binary=:all:", "--requirement", str(HERE / "peers.txt")]
        if subprocess.run(command, env=dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")).returncode != 0:
            raise SetupError("pip could not install what setup/peers.txt pins; its message is above")
        (scratch / "made-from").write_text(wanted())
    print("peers: {}".format(FINAL))


if __name__ == "__main__":
    run(main)
