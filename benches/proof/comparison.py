"""What the comparisons of `make proof` share: running Lancet, and rows of the page."""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from safetensors.torch import load_file  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
sys.path.insert(0, str(ROOT / "setup"))


def lancet(script, *flags, folder=None, **options):
    """Runs a script of this folder and returns the tensors that it writes; they and other files stay in `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(folder or scratch)
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        subprocess.run([ROOT / "target/release/lancet", "run", Path(__file__).parent / script, *flags, *words, "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
        return load_file((out / script).with_suffix(".safetensors"))


def difference(ours, theirs):
    """The largest difference, divided by the largest entry."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def run(compare):
    """Writes the rows that `compare` yields, (peer, version, what, difference, tolerance), to --out; fails if one is off."""
    parser = argparse.ArgumentParser(description=sys.modules[compare.__module__].__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file for the rows")
    args = parser.parse_args()
    date = datetime.date.today().isoformat()
    rows = [dict(zip(["peer", "version", "what", "difference", "tolerance"], row), date=date) for row in compare()]
    for row in rows:
        print("{peer}: {what}: {difference:.1e}, at most {tolerance:.0e}".format(**row))
    off = [row for row in rows if not row["difference"] <= row["tolerance"]]
    if off:
        sys.exit("error: these differ by more than they may: {}".format("; ".join(row["what"] for row in off)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
