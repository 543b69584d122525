"""Where the site shows something: addresses that stay, whatever is made again."""

from pathlib import Path
from urllib.parse import quote

SITE = Path("site")
INDEX = SITE / "index.html"


def cell_address(item: str, group: str, title: str, column: str) -> str:
    """``site/index.html#table3/MM-VICUNA-7B/LayerNorm-80K/POPE``: a cell of a table or figure."""
    return f"{INDEX}#{'/'.join(quote(part, safe='') for part in (item, group, title, column))}"
