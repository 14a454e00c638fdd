"""Makes what `make proof` compares Lancet with: vendor/proof, a virtual environment on top of vendor/peers with older and
further Python libraries; and vendor/checkouts, repositories at fixed commits."""

import shutil
import subprocess

import peers
from environment import VENDOR, make
from wheel import SetupError, replacing, run

REPOSITORIES = {
    "hannamw/EAP-IG": "7af394a5662de8b23ad6154716a0cd3993d447a3",
    "hannamw/MIB-circuit-track": "b759df34433c9e31043ba9e02908ce0bf20e894f",
    "jamesgolden1/equivalent-linear-LLMs": "9fc4ad90697efff859040f69bf8ebfb77c055497",
    "rachtibat/LRP-eXplains-Transformers": "f04344177551bfcc3665e88afe96501f43fe560b",
}


def checkout(repository):
    """The folder of a repository's files."""
    return VENDOR / "checkouts" / repository


def fetch(repository, commit):
    final = checkout(repository)
    made_from = final / ".made-from"
    if made_from.is_file() and made_from.read_text() == commit:
        print("proof: {} is there already".format(repository))
        return
    address = "https://github.com/{}".format(repository)
    print("proof: fetching {} at {}".format(repository, commit[:7]))
    with replacing(final) as scratch:
        for words in [["init", "--quiet"], ["fetch", "--quiet", "--depth", "1", address, commit], ["checkout", "--quiet", commit]]:
            if subprocess.run(["git", "-C", str(scratch)] + words).returncode != 0:
                raise SetupError("git could not fetch {} at {}; its message is above".format(address, commit))
        shutil.rmtree(scratch / ".git")
        (scratch / ".made-from").write_text(commit)


def main():
    peers.main()
    make("proof", ["proof.txt"], "transformers 4.52.4 and shapiq (190 MB to download, 700 MB on disk)", "proof", beneath="peers")
    for repository, commit in REPOSITORIES.items():
        fetch(repository, commit)


if __name__ == "__main__":
    run(main)
