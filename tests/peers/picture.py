"""Takes the picture of the README: the page of a canary that fails in `evener demo --break v2`.

    target/venv/bin/python tests/peers/picture.py conf/page.png

renews the one that is committed. `tests/run` makes what this needs: target/venv, Chromium and target/debug/evener.
"""

import struct
import sys
import tempfile
from pathlib import Path

from chromium import Page
from conftest import EVENER, Program, wait_for

WIDTH, HEIGHT = 1280, 1040
MOST_BYTES = 200_000
# The one that is committed.
KEPT = Path(__file__).parents[2] / "conf/page.png"


def size_of(path):
    """Width and height of a PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR", f"{path} is no PNG"
    return struct.unpack(">II", head[16:24])


def take(path, folder):
    """Waits until the demo's canary fails, and looks at it."""
    demo = Program("demo", folder, [EVENER, "demo", "--break", "v2"])
    page = None
    try:
        address = demo.wait_for_line(r"admin page  (http://\S+)")[1]
        page = Page(folder / "chromium")
        page.look(WIDTH, HEIGHT, dark=False)
        page.visit(f"{address}/#/model/chat")
        wait_for("the canary to fail", lambda: "v2 fails: " in page.text("main"), 120)
        # Bars move to where they belong.
        page.run("return Promise.allSettled(document.getAnimations().map((each) => each.finished)).then(() => 0)")
        page.driver.save_screenshot(str(path))
    finally:
        if page:
            page.driver.quit()
        demo.end()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        take(Path(sys.argv[1]).resolve(), Path(made))
