"""Makes docs/report.png: the top and the timeline of a run's report, by headless Chromium.

Usage: python docs/picture.py reports/RUN/report.html
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

WIDTH = 1300
TALL = 4000  # more than the page needs; what is below it is cut off
ONLY_TIMELINE = "<style>.columns, #timeline-end ~ * { display: none !important }</style></head>"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--virtual-time-budget=2000", f"--window-size={WIDTH},{TALL}")  # fmt: skip
MEASURE = """<script>addEventListener("load", () => { document.title =
  "height " + Math.ceil(document.querySelector("main").getBoundingClientRect().bottom); });
</script></body>"""


def only_timeline(page: str) -> str:
    """Return the page without what comes beside and after the timeline."""
    head, mark, rest = page.partition("<h2>Guarantees</h2>")
    if not mark:
        raise SystemExit("this is no report of the harness: it has no section Guarantees")
    start = head.rindex("<section")
    page = head[:start] + '<i id="timeline-end"></i>' + head[start:] + mark + rest
    return page.replace("</head>", ONLY_TIMELINE, 1).replace("</body>", MEASURE, 1)


def chromium(*arguments: str) -> str:
    """Run headless Chromium and return what it printed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("Chromium is needed and was not found: apt-get install chromium")
    done = subprocess.run([program, *FLAGS, *arguments], capture_output=True, text=True, timeout=90)
    return done.stdout


def cut(png: bytes, rows: int) -> bytes:
    """Return the first rows of a PNG: filters look only upwards, so the rest can be left out."""
    chunks, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        chunks.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    header = dict(chunks)[b"IHDR"]
    width, height, depth, colours = struct.unpack(">IIBB", header[:10])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    line = 1 + (width * channels * depth + 7) // 8
    kept = zlib.compress(pixels[: line * min(rows, height)], 9)
    new = header[:4] + struct.pack(">I", min(rows, height)) + header[8:]
    return png[:8] + _chunk(b"IHDR", new) + _chunk(b"IDAT", kept) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def main(report: Path) -> None:
    """Write the picture beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        page.write_text(only_timeline(report.read_text(encoding="utf-8")), encoding="utf-8")
        profile = f"--user-data-dir={folder}/profile"
        found = re.search(r"height (\d+)", chromium(profile, "--dump-dom", page.as_uri()))
        if found is None:
            raise SystemExit("Chromium did not tell how high the page is")
        chromium(profile, f"--screenshot={shot}", page.as_uri())
        picture = cut(shot.read_bytes(), int(found[1]) + 16)
    target = Path(__file__).with_name("report.png")
    target.write_bytes(picture)
    print(f"{target}: {len(picture) / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
