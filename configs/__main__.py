"""List the published configs: the name that --config takes, and what each reproduces.

python -m vae_jax.configs
"""

import ast
import sys

from vae_jax import cli
from vae_jax.configs import FOLDER, names


def main() -> None:
    """The command line."""
    width, lines = max(map(len, names())), []
    for name in names():
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
        lines.append(f"{name:{width}}  {docstring.splitlines()[0]}\n")
    sys.stdout.write("".join(lines))  # at once, so that nothing is left to write when `head` has read its lines


if __name__ == "__main__":
    cli.run(main)
