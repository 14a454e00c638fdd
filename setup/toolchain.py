"""Reports missing build tools before anything is fetched."""

import os
import re
import shutil
import subprocess

from wheel import HERE, SetupError, run


def needed_rust():
    """The oldest Rust that Cargo.toml accepts."""
    return re.search(r'rust-version = "([\d.]+)"', (HERE.parent / "Cargo.toml").read_text()).group(1)


def numbers(version):
    return [int(part) for part in version.split(".")]


def main():
    missing = []
    wanted = needed_rust()
    if shutil.which("cargo") is None:
        missing.append("Rust {} or newer (`cargo` is not found): install it with rustup".format(wanted))
    else:
        said = subprocess.run(["cargo", "--version"], capture_output=True, text=True).stdout
        found = re.search(r"cargo ([\d.]+)", said)
        if found and numbers(found.group(1)) < numbers(wanted):
            missing.append("Rust {} or newer (found {}): `rustup update stable`".format(wanted, found.group(1)))
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    if not any(compiler and shutil.which(compiler.split()[0]) for compiler in compilers):
        missing.append("a C++ compiler (Debian, Ubuntu: `apt-get install g++`)")
    if missing:
        raise SetupError("a build needs\n  " + "\n  ".join(missing))


if __name__ == "__main__":
    run(main)
