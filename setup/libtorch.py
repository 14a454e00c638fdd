"""Provides a libtorch for the build; `--cuda` adds the libraries that let the same binary use a GPU.

Looks in this order: LIBTORCH; LIBTORCH_USE_PYTORCH=1; vendor/libtorch, which it fetches if it is missing.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from wheel import HERE, LICENCES, SetupError, download, megabytes, replacing, run, unpack

VERSION = "2.11.0"
VENDOR = HERE.parent / "vendor"
ELSEWHERE = (
    "hint: install PyTorch {0} and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to the folder of a libtorch {0}"
).format(VERSION)

PYTHON_QUESTION = "import torch; print(torch.__version__); print(torch.__path__[0])"


def flat(name):
    """torch/lib/libc10.so -> lib/libc10.so"""
    return Path("lib") / Path(name).name


def same(name):
    return Path(name)


CPU_RULES = LICENCES + [
    ("torch/include/*", lambda name: Path(name).relative_to("torch")),
    ("torch/lib/libc10.so", flat),
    ("torch/lib/libtorch_cpu.so", flat),
    ("torch/lib/libtorch.so", flat),
    ("torch/lib/libgomp*", flat),
    ("nvidia/*/lib/libcupti.so.*", flat),
    ("nvidia/*/lib/libcudart.so.*", flat),
]

# Keeps the folders of the wheels: the libraries find each other by relative paths.
CUDA_RULES = LICENCES + [
    ("torch/lib/libtorch_python.so", None),
    ("torch/lib/libshm*", None),
    ("torch/lib/*.so", same),
    ("torch/lib/*.so.*", same),
    ("nvidia/*/lib/*.so", same),
    ("nvidia/*/lib/*.so.*", same),
]


def require_version(found, what):
    if found.split("+")[0] != VERSION:
        raise SetupError("{} is version {}, and {} is needed".format(what, found, VERSION))


def check_given(folder):
    """Checks that LIBTORCH is a libtorch."""
    for part in ["include/torch", "lib"]:
        if not (folder / part).is_dir():
            raise SetupError(
                "LIBTORCH is `{}`, which has no `{}`\nhint: unset LIBTORCH to have libtorch fetched".format(folder, part)
            )
    recorded = folder / "build-version"
    if recorded.is_file():
        require_version(recorded.read_text().strip(), "the libtorch in LIBTORCH")
    print("libtorch: {} (LIBTORCH)".format(folder))


def check_pytorch():
    """Checks that the active Python has a suitable PyTorch, for LIBTORCH_USE_PYTORCH."""
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"
    answer = subprocess.run([python, "-c", PYTHON_QUESTION], capture_output=True, text=True)
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError("LIBTORCH_USE_PYTORCH is set, but `{}` cannot import torch: {}".format(python, reason))
    version, folder = answer.stdout.split()[:2]
    require_version(version, "the PyTorch of `{}`".format(python))
    print("libtorch: {} (LIBTORCH_USE_PYTORCH)".format(folder))


def require_platform():
    """Refuses platforms other than Linux on x86_64 with glibc 2.28 or newer, which the pinned wheels are for."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError("no libtorch is pinned for {} on {}\n{}".format(system, machine, ELSEWHERE))
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < (2, 28):
        found = "{} {}".format(library, version).strip() or "another C library"
        raise SetupError("the pinned libtorch needs glibc 2.28 or newer, and this system has {}\n{}".format(found, ELSEWHERE))


def is_current(folder):
    recorded = folder / "build-version"
    return recorded.is_file() and recorded.read_text().strip() == VERSION


def check_cuda():
    """Refuses a vendor/libtorch-cuda of another version, since a binary would prefer it."""
    folder = VENDOR / "libtorch-cuda"
    if folder.is_dir() and not is_current(folder):
        raise SetupError("`{}` is not version {}\nhint: run `make libtorch-cuda`, or remove it".format(folder, VERSION))


def fetch(final, requirements, rules, size):
    """Fills `final` from the wheels that `requirements` pins."""
    require_platform()
    print("libtorch: fetching {} ({})".format(VERSION, size))
    with replacing(final) as scratch:
        downloads = scratch / "wheels"
        for wheel in download(requirements, downloads):
            print("libtorch: unpacking {} ({})".format(wheel.name, megabytes(wheel)))
            unpack(wheel, rules, scratch)
            wheel.unlink()
        downloads.rmdir()
        (scratch / "build-version").write_text(VERSION + "\n")
    print("libtorch: {} ({})".format(final, megabytes(final)))


def main():
    if "--cuda" in sys.argv[1:]:
        final = VENDOR / "libtorch-cuda"
        if is_current(final):
            print("libtorch: {} is there already".format(final))
        else:
            fetch(final, "libtorch-cuda.txt", CUDA_RULES, "about 2.5 GB to download, 4 GB on disk")
        print("A binary built with vendor/libtorch uses it from its next start; `lancet doctor` lists the devices.")
    elif os.environ.get("LIBTORCH_USE_PYTORCH") is not None:
        check_pytorch()
    elif os.environ.get("LIBTORCH"):
        check_given(Path(os.environ["LIBTORCH"]))
    else:
        check_cuda()
        if is_current(VENDOR / "libtorch"):
            print("libtorch: vendor/libtorch is there already")
        else:
            fetch(VENDOR / "libtorch", "libtorch.txt", CPU_RULES, "540 MB to download, 500 MB on disk")


if __name__ == "__main__":
    run(main)
