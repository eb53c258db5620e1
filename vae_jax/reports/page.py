"""Self-contained HTML pages: no other files, no network. Tables also in Markdown."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

CSS = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, sans-serif; color: #1e293b; background: #f8fafc; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0 .8rem; } .lead { color: #64748b; }
section { background: white; border: 1px solid #e2e8f0; border-radius: 10px; padding: .2rem 1.4rem 1.2rem; margin: 1.2rem 0; }
section h2 { margin-top: 1.1rem; }
img { max-width: 100%; height: auto; display: block; margin: .6rem auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .6rem 0; }
th, td { text-align: right; padding: .32rem .7rem; border-bottom: 1px solid #e2e8f0; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white; } thead th { color: #64748b; font-weight: 600; }
pre { background: #f1f5f9; border-radius: 6px; padding: .8rem; overflow-x: auto; font-size: .8rem; }
""".strip()  # noqa: E501


def picture(png: bytes, alternative: str) -> str:
    """An embedded PNG."""
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    plain = [[_plain(cell) for cell in line] for line in (header, *rows)]
    lines = [plain[0], ["---"] + ["---:"] * (len(header) - 1), *plain[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _plain(cell: str) -> str:
    """The cell as Markdown shows it letter by letter: no markup, no mathematics and no end of the cell."""
    cell = re.sub(r"([\\`*$|]|<(?=[\w/!])|(?<!\w)_|_(?!\w)|&(?=#?\w+;))", r"\\\1", cell)
    return re.sub(r"\s", " ", cell)


def section(title: str, *parts: str) -> str:
    """A titled block; `parts` are HTML."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def figures(pictures: Mapping[str, bytes], captions: Mapping[str, str] | None = None) -> list[str]:
    """A titled block for each PNG of `pictures`; `captions` go above them, by title."""
    above = {title: [text(caption)] for title, caption in (captions or {}).items()}
    return [section(title, *above.get(title, ()), picture(png, title)) for title, png in pictures.items()]


def text(words: str, kind: str = "") -> str:
    """A paragraph."""
    return f'<p class="{kind}">{escape(words)}</p>'


def preformatted(words: str) -> str:
    """Preformatted text, such as a config."""
    return f"<pre>{escape(words)}</pre>"


def page(title: str, lead: str, *sections: str) -> str:
    """The whole document."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{CSS}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{text(lead, 'lead')}{''.join(sections)}</main></body></html>\n"
    )
