"""Makes a virtual environment in vendor/ from pinned wheels, unless it is there already."""

import hashlib
import os
import subprocess
import sys

from wheel import HERE, SetupError, replacing

VENDOR = HERE.parent / "vendor"
OLDEST, NEWEST = (3, 11), (3, 14)


def packages(environment):
    """Where an environment keeps its packages."""
    return environment / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"


def make(name, requirements, fetching, target, beneath=None):
    """Makes vendor/<name> with what setup/<requirements[0]> pins; the other files are those that it names.

    `fetching` says what is fetched, `target` is make's target that needs it. Packages that the environment lacks are
    looked for in the environment `beneath`.
    """
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            "the libraries that Lancet is compared with need Python {}.{} to {}.{}, and this is {}.{}\n"
            "hint: name another one, `make {} PYTHON=python3.12`".format(*OLDEST, *NEWEST, *sys.version_info[:2], target)
        )
    final = VENDOR / name
    pins = b"".join((HERE / file).read_bytes() for file in requirements)
    wanted = "{} {}.{}\n".format(hashlib.sha256(pins).hexdigest(), *sys.version_info)
    made_from = final / "made-from"
    if made_from.is_file() and made_from.read_text() == wanted:
        print("{0}: vendor/{0} is there already".format(name))
        return
    print("{}: fetching {}".format(name, fetching))
    with replacing(final) as scratch:
        # Only `bin/python` is used; it finds its environment even after a move.
        if subprocess.run([sys.executable, "-m", "venv", str(scratch)]).returncode != 0:
            raise SetupError(
                "{} cannot make a virtual environment\nhint: install its venv module "
                "(Debian, Ubuntu: `apt-get install python3-venv`)".format(sys.executable)
            )
        pip = [str(scratch / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--require-hashes"]
        command = pip + ["--only-binary=:all:", "--requirement", str(HERE / requirements[0])]
        if subprocess.run(command, env=dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")).returncode != 0:
            raise SetupError("pip could not install what setup/{} pins; its message is above".format(requirements[0]))
        if beneath is not None:
            (packages(scratch) / "beneath.pth").write_text("{}\n".format(packages(VENDOR / beneath)))
        (scratch / "made-from").write_text(wanted)
    print("{}: {}".format(name, final))
