"""The files of a study of trained runs: NAME.json, NAME.md, NAME.html, and one PNG per picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax.runs.workdir import write_bytes, write_text
from vae_jax.strict_json import to_json


def write_study(
    output: str | Path,
    name: str,
    record: Mapping[str, Any],
    markdown: Sequence[str],
    pictures: Mapping[str, bytes] | None = None,
    html: str | None = None,
) -> None:
    """Writes a study into the folder `output`.

    Args:
      record: the content of NAME.json.
      markdown: the paragraphs and tables of NAME.md.
      pictures: PNGs by title, see `png_name`.
      html: the content of NAME.html; without it there is no page.
    """
    output = Path(output)
    for title, png in (pictures or {}).items():
        write_bytes(output / png_name(title), png)
    write_text(output / f"{name}.json", to_json(record, indent=2) + "\n")
    write_text(output / f"{name}.md", "\n\n".join(block.strip("\n") for block in markdown) + "\n")
    if html is not None:
        write_text(output / f"{name}.html", html)


def print_study(output: str | Path, name: str) -> None:
    """Prints the tables of a study, and where its page is."""
    print((Path(output) / f"{name}.md").read_text())
    page = Path(output) / f"{name}.html"
    if page.is_file():
        print(f"page: {page}")


def png_name(title: str) -> str:
    """The file name of a picture: 'Encoded again, run a/b' -> 'encoded_again_run_a-b.png'."""
    return title.lower().replace(", ", "_").replace(" ", "_").replace("/", "-") + ".png"
