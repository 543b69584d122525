"""Six pictures of a site, three as on a desk and three as on a phone; the test makes them of its own, and by hand

    PYTHONPATH=src python tests/helpers/site_pictures.py site docs/images TABLE GROUP TITLE COLUMN

those of the documentation.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from chromium import Browser
from lntune.site.address import cell_address

SEEN = "[...document.images].every((one) => one.complete || one.getBoundingClientRect().top > innerHeight)"
SHOWN = "!document.getElementById('panel').hidden"


def take(browser: Browser, site: Path, folder: Path, table: str, group: str, title: str, column: str) -> list[Path]:
    """The pictures: a table, the derivation of one of its cells, its questions beside another model; the training."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = f"{table}.html#{cell_address(table, group, title, column).partition('#')[2]}"
    taken = []

    def shot(name: str) -> None:
        browser.wait(SEEN)
        image = Image.open(io.BytesIO(browser.picture())).convert("RGB")
        taken.append(path := folder / f"site-{name}.webp")
        image.save(path, "WEBP", quality=60)

    for kind, width, height in (("desktop", 1280, 800), ("phone", 390, 780)):
        browser.size(width, height, phone=kind == "phone")
        browser.media(prefers_color_scheme="light")
        browser.open((site / f"{table}.html").as_uri())
        shot(f"table-{kind}")
        browser.open(f"{site.as_uri()}/{cell}")
        browser.wait(f"{SHOWN} && document.querySelector('#panel .tree ul li')")
        score = browser.ask("document.querySelector('#panel .tree summary').textContent.split(': ')[1]")
        training = browser.wait("[...document.links].find((one) => one.textContent.startsWith('Training'))?.hash")
        shot(f"derivation-{kind}")
        if kind == "desktop":
            browser.ask(f"location.hash = '#!questions/{score}'")
            other = browser.wait("document.querySelector('#models option:nth-child(2)')?.value")
            browser.ask(f"location.hash = '#!questions/{score}/{other}'")
            browser.wait("[...document.querySelectorAll('#order option')].some((one) => one.value === 'differ')")
            shot(f"questions-{kind}")
        else:
            browser.media(prefers_color_scheme="dark")
            browser.ask(f"location.hash = '{training}'")
            browser.wait(f"{SHOWN} && document.querySelector('#panel svg')")
            browser.ask("document.querySelector('#panel h3').scrollIntoView()")
            shot(f"training-{kind}")
    return taken


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as opened:
        for picture in take(opened, Path(sys.argv[1]).resolve(), Path(sys.argv[2]), *sys.argv[3:7]):
            print(picture, picture.stat().st_size)
