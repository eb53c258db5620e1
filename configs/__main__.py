"""List the published configs: the name that --config takes, and what each reproduces.

python -m vae_jax.configs
"""

import ast

from vae_jax import cli
from vae_jax.configs import FOLDER, names


def main() -> None:
    """The command line."""
    width = max(map(len, names()))
    for name in names():
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
        print(f"{name:{width}}  {docstring.splitlines()[0]}")


if __name__ == "__main__":
    cli.run(main)
