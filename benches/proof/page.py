"""Runs the comparisons of `make proof`, and writes docs/proof.md.

    make proof               all comparisons
    make proof ONLY=hooks    one; the others' rows stay as out/proof has them
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "out" / "proof"
PAGE = ROOT / "docs" / "proof.md"
# Comparison -> the environment in vendor/ that it runs in.
COMPARISONS = {"detached_jacobians": "proof", "relevance": "peers", "edges": "proof", "interactions": "proof", "hooks": "peers"}
HEAD = """\
<!-- Written by `make proof` (benches/proof/page.py): change that instead. -->

# Beside other people's code

`make proof` fetches implementations that we did not write, in the versions below, runs them and Lancet on the same
models and prompts, and writes this page. It fails if a difference is larger than allowed.

A difference is the largest one of all entries, divided by the largest entry of the peer's result (of the same hook, the
same singular value). Models without a name are the tiny random ones of `tests/fixtures/models`.

| peer | version | what | difference | at most | command | date |
| --- | --- | --- | --- | --- | --- | --- |
"""
ROW = "| {peer} | {version} | {what} | {difference:.1e} | {tolerance:.0e} | `make proof ONLY={name}` | {date} |\n"


def rows(name):
    file = OUT / f"{name}.json"
    if not file.is_file():
        sys.exit(f"error: {name} has not been compared yet\nhint: `make proof` compares all")
    return [ROW.format(name=name, **row) for row in json.loads(file.read_text())]


def main():
    only = sys.argv[1:]
    for name in only:
        if name not in COMPARISONS:
            sys.exit("error: there is no comparison `{}`\nhint: there are {}".format(name, ", ".join(COMPARISONS)))
    for name in only or COMPARISONS:
        print(f"proof: {name}", flush=True)
        command = [ROOT / "vendor" / COMPARISONS[name] / "bin" / "python", "-W", "ignore", HERE / f"{name}.py"]
        if subprocess.run([*command, "--out", OUT / f"{name}.json"]).returncode != 0:
            sys.exit(f"error: the comparison {name} failed; its message is above")
    PAGE.write_text(HEAD + "".join(row for name in COMPARISONS for row in rows(name)))
    print(f"proof: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
