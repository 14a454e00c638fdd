"""Makes, from the built program and libtorch's CPU libraries, a relocatable archive and a wheel in out/dist.

Both hold the same: `bin/lancet` and, in `lib/lancet`, the libraries that it finds relative to itself. The wheel installs
these into the environment's prefix, so that one run-time path serves both and every version of Python.
"""

import argparse
import base64
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import debug_information
from debug_information import objcopy
from libtorch import VENDOR, VERSION, check_given
from wheel import HERE, SetupError, megabytes, run

ROOT = HERE.parent
LIBRARIES = "lib/lancet"
# The first entry of every build's run-time path: see build.rs.
RUN_TIME_PATH = "$ORIGIN/../" + LIBRARIES

# What the platform tags of Python's wheels take for granted on every Linux.
SYSTEM = re.compile(r"(libc|libdl|libgcc_s|libm|libpthread|librt|libstdc\+\+|libutil|ld-linux-x86-64)\.so\.\d+")

# Torch's own are stripped. NVIDIA's and the compiler's stay as they are.
STRIPPED = ["libc10.so", "libtorch_cpu.so"]

SUMMARY = "A scripting environment for mechanistic interpretability of language models"
METADATA = """Metadata-Version: 2.4
Name: lancet-lm
Version: {version}
Summary: {summary}
License-Expression: Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA-Toolkit
{licences}
Requires-Python: >=3.9
Provides-Extra: cuda
Requires-Dist: torch=={release}.*; extra == "cuda"
Description-Content-Type: text/markdown

"""
WHEEL = """Wheel-Version: 1.0
Generator: lancet
Root-Is-Purelib: false
Tag: py3-none-{platform}
"""


def libtorch_of_build():
    """The folder of the libtorch that the program was built with."""
    if os.environ.get("LIBTORCH_USE_PYTORCH") is not None:
        raise SetupError("the archive and the wheel hold libtorch's CPU libraries\nhint: unset LIBTORCH_USE_PYTORCH")
    folder = Path(os.environ.get("LIBTORCH") or VENDOR / "libtorch")
    check_given(folder)
    return folder


def version():
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)


def headers(file):
    """What a library or program says of itself: what it needs, and of which versions."""
    answer = subprocess.run(["objdump", "--private-headers", str(file)], capture_output=True, text=True)
    if answer.returncode != 0:
        raise SetupError("{}: {}".format(file, answer.stderr.strip()))
    return answer.stdout


def libraries(program, folder):
    """The files of `folder` that the program needs, and those that these need."""
    found, waiting = {}, [program]
    while waiting:
        needing = waiting.pop()
        for name in re.findall(r"NEEDED +(\S+)", headers(needing)):
            if (folder / name).is_file():
                if name not in found:
                    found[name] = folder / name
                    waiting.append(found[name])
            elif not SYSTEM.fullmatch(name):
                raise SetupError("{} needs `{}`, which neither {} nor every system has".format(needing, name, folder))
    return found


def platform(files):
    """The tag of the systems that have the C library that all files need."""
    versions = [re.findall(r"GLIBC_(\d+)\.(\d+)", headers(file)) for file in files]
    return "manylinux_{}_{}_x86_64".format(*max((int(major), int(minor)) for found in versions for major, minor in found))


def make_relocatable(program):
    """Ends the program's run-time path behind its first entry, so that no folder of this machine is left in it."""
    contents = program.read_bytes()
    found = re.findall(re.escape(RUN_TIME_PATH.encode()) + rb":[^\0]*\0", contents)
    if len(found) > 1:
        raise SetupError("{} has {} run-time paths".format(program, len(found)))
    for path in found:
        program.write_bytes(contents.replace(path, RUN_TIME_PATH.encode().ljust(len(path), b"\0")))
    kept = re.findall(r"(?:RUNPATH|RPATH) +(\S+)", headers(program))
    if kept != [RUN_TIME_PATH]:
        raise SetupError("the run-time path of {} is {}, not `{}`".format(program, kept, RUN_TIME_PATH))


def stage(program, libtorch, folder, out):
    """Puts together in `folder` what is installed; the debug information goes to `out`."""
    for name in ["bin", LIBRARIES, "licenses"]:
        (folder / name).mkdir(parents=True)
    debug_information.split(program, folder / "bin")
    os.replace(folder / "bin/lancet.debug", out / "lancet.debug")
    make_relocatable(folder / "bin/lancet")
    for name, library in libraries(program, libtorch / "lib").items():
        target = folder / LIBRARIES / name
        if name in STRIPPED:
            objcopy("--strip-unneeded", library.resolve(), target)
        else:
            shutil.copy(library, target)
    (folder / LIBRARIES / "build-version").write_text(VERSION + "\n")
    (folder / "licenses/LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    for licence in sorted((libtorch / "licenses").glob("*/*")):
        target = folder / licence.relative_to(libtorch)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(licence.read_bytes())


def files(folder):
    """The files below a folder by their paths, in a fixed order."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def write_archive(staged, path, level):
    """Writes the archive. Its bytes depend on the contents only."""

    def plain(member):
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.name.endswith("bin/lancet") else 0o644
        return member

    top = path.name[: -len(".tar.gz")]
    with open(path, "wb") as sink, gzip.GzipFile("", "wb", level, sink, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, file in files(staged).items():
                archive.add(file, "{}/{}".format(top, name), filter=plain)


def wheel_place(name, package):
    """Where a staged file goes in the wheel."""
    if name.startswith("bin/"):
        return name.replace("bin/", package + ".data/scripts/", 1)
    if name.startswith("lib/"):
        return package + ".data/data/" + name
    return "{}.dist-info/{}".format(package, name)


def write_wheel(staged, path, level):
    """Writes the wheel. Its bytes depend on the contents only."""
    package = "-".join(path.name.split("-")[:2])
    info = package + ".dist-info/"
    staged_files = files(staged)
    licences = ["License-File: " + name[len("licenses/") :] for name in staged_files if name.startswith("licenses/")]
    release = VERSION.rsplit(".", 1)[0]
    described = METADATA.format(version=version(), summary=SUMMARY, licences="\n".join(licences), release=release)
    contents = {wheel_place(name, package): file for name, file in staged_files.items()}
    contents[info + "METADATA"] = (described + (ROOT / "README.md").read_text()).encode()
    contents[info + "WHEEL"] = WHEEL.format(platform=path.stem.split("-")[-1]).encode()
    record = []
    method = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method, compresslevel=level) as archive:

        def add(name, data):
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            member.external_attr = (0o100755 if name.endswith("scripts/lancet") else 0o100644) << 16
            archive.writestr(member, data, compresslevel=level)

        for name, source in contents.items():
            data = source if isinstance(source, bytes) else source.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append("{},sha256={},{}\n".format(name, digest, len(data)))
            add(name, data)
        record.append(info + "RECORD,,\n")
        add(info + "RECORD", "".join(record))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lancet")
    parser.add_argument("--out", type=Path, default=ROOT / "out/dist")
    parser.add_argument("--level", type=int, choices=range(10), default=9, help="how hard to compress; 0 does not")
    options = parser.parse_args()
    libtorch = libtorch_of_build()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=options.out) as scratch:
        staged = Path(scratch)
        stage(options.program, libtorch, staged, options.out)
        shared = [file for name, file in files(staged).items() if ".so" in name]
        tag = platform([staged / "bin/lancet"] + shared)
        archive = options.out / "lancet-{}-linux-x86_64.tar.gz".format(version())
        wheel = options.out / "lancet_lm-{}-py3-none-{}.whl".format(version(), tag)
        write_archive(staged, archive, options.level)
        write_wheel(staged, wheel, options.level)
    for path in [archive, wheel, options.out / "lancet.debug"]:
        print("dist: {} ({})".format(path, megabytes(path)))


if __name__ == "__main__":
    run(main)
