"""Installs Slurm's daemons and commands from Debian's packages, for the tests of runs on a cluster.

The tests start and stop a cluster of their own; nothing of the system's is used or changed.
"""

import os
import shutil
import subprocess

from wheel import SetupError, run

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
PROGRAMS = ["slurmctld", "slurmd", "sbatch", "munged"]


def is_there():
    folders = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return all(shutil.which(program, path=folders) for program in PROGRAMS)


def main():
    if is_there():
        return
    packages = " ".join(PACKAGES)
    if shutil.which("apt-get") is None:
        raise SetupError("this system has no apt-get; install {} by other means".format(packages))
    if os.geteuid() != 0:
        raise SetupError("only root can: sudo apt-get install --no-install-recommends " + packages)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for words in [["update"], ["install", "-y", "--no-install-recommends"] + PACKAGES]:
        if subprocess.run(["apt-get", "-qq"] + words, env=environment).returncode != 0:
            raise SetupError("apt-get could not install {}; its message is above".format(packages))


if __name__ == "__main__":
    run(main)
