"""Moves the debug information of a program, target/release/lancet by default, into a file beside it, `lancet.debug`.

Cargo cannot do this on Linux. Debuggers find the file, and so do the backtraces of panics, as long as both are together.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wheel import HERE, SetupError, megabytes, run


def objcopy(*words):
    """Runs objcopy, which comes with the linker."""
    try:
        answer = subprocess.run(["objcopy"] + [str(word) for word in words], capture_output=True, text=True)
    except FileNotFoundError:
        raise SetupError("`objcopy` is not found\nhint: install it (Debian, Ubuntu: `apt-get install binutils`)")
    if answer.returncode != 0:
        raise SetupError(answer.stderr.strip())


def has_any(program):
    """Whether a program has debug information in it."""
    answer = subprocess.run(["objdump", "--section-headers", str(program)], capture_output=True, text=True)
    return ".debug_info" in answer.stdout


def split(program, folder):
    """Puts a program without debug information into `folder`, and that in a file beside it. Each is replaced as a whole."""
    debug = program.name + ".debug"
    with tempfile.TemporaryDirectory(prefix=".debug-", dir=folder) as scratch:
        new, new_debug = Path(scratch) / program.name, Path(scratch) / debug
        if has_any(program):
            objcopy("--only-keep-debug", program, new_debug)
            # The program records the file's name and checksum.
            objcopy("--strip-all", "--add-gnu-debuglink={}".format(new_debug), program, new)
        else:
            shutil.copy(program, new)
            shutil.copy(program.with_name(debug), new_debug)
        os.replace(new_debug, folder / debug)
        os.replace(new, folder / program.name)


def main():
    program = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "target/release/lancet"
    if has_any(program):
        split(program, program.parent)
    debug = program.with_name(program.name + ".debug")
    print("build: {} ({}), debug information in {} ({})".format(program, megabytes(program), debug.name, megabytes(debug)))


if __name__ == "__main__":
    run(main)
