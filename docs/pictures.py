"""Makes the pictures of the README, docs/src/images: the demo's heatmap as the terminal shows it, and as a figure.

Runs with the packages of docs/pictures.txt (`make docs-pictures`). The demo has cached its cells, so this takes seconds.
"""

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "src" / "images"
COLUMNS, LINES = 72, 60
DARK = TerminalTheme(
    (24, 24, 27),
    (228, 228, 231),
    [(0, 0, 0), (205, 49, 49), (13, 188, 121), (229, 229, 16)]
    + [(36, 114, 200), (188, 63, 188), (17, 168, 205), (229, 229, 229)],
)
# The reader's monospaced font; nothing is fetched.
SVG = """<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>A heatmap in the terminal</title>
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="100%" height="100%" rx="8" fill="#18181b"/>
<g transform="translate(9, 9)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def terminal_output(command):
    """A program's output to a terminal with true colour."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = dict(os.environ, TERM="xterm-256color", COLORTERM="truecolor")
    environment.pop("NO_COLOR", None)
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(command, cwd=ROOT, stdin=nothing, stdout=theirs, stderr=nothing, env=environment)
    os.close(theirs)
    text = b""
    while True:
        try:
            text += os.read(ours, 1 << 16)
        except OSError:  # the program has ended
            break
    if child.wait() != 0:
        sys.exit("error: {} failed".format(command[0]))
    return text.decode().replace("\r\n", "\n")


def heatmap(text):
    """The lines of the first heatmap, from its title to its marked cell."""
    lines = text.splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    last = next(place for place, line in enumerate(plain) if line.startswith("marked: row"))
    axis = max(place for place in range(last) if plain[place].startswith("layer i"))
    return "\n".join(lines[axis - 1 : last + 1])


def main():
    program, script, *options = sys.argv[1:]
    demo = ROOT / "out" / "demo" / "localization"
    picture = heatmap(terminal_output([program, "run", script, *options, "--out", str(demo)]))
    text = Text.from_ansi(picture + "\n")
    width = 1 + max(map(len, text.plain.splitlines()))
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text)
    svg = console.export_svg(theme=DARK, code_format=SVG, unique_id="terminal", font_aspect_ratio=0.6)
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "terminal.svg").write_text(svg)
    shutil.copy(demo / "smollm2_adj_comp_rr.svg", IMAGES / "figure.svg")


if __name__ == "__main__":
    main()
