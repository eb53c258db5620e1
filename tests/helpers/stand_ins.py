"""Stand-ins for programs that tests must not call, or need not: they record their arguments."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.checks import ROOT

# Arguments that lose their meaning where a script forgets to quote them
AWKWARD = [
    "--config=configs/vae_mnist.py:smoke",
    '--config.data.dir=/my photos/it\'s 100% $HOME "big" & *;',
    "--workdir=gs://b/r",
]
SECONDS = 180  # in which anything here is over, also on a machine with much else to do
NEVER = ("gcloud", "kubectl", "sbatch", "srun", "scancel", "scontrol")
STAND_IN = """#!{python} -IS
import json, os, sys, time
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open({notes!r}, "a") as file:
    file.write(json.dumps([name, *words]) + "\\n")
{code}
"""
# Writes into FILE when it listens, and the signals that it is sent; ends with the first one unless it is deaf
OBEDIENT = """
import signal
def note(word):
    with open(FILE, "a") as file: print(word, file=file)
def hear(number, frame):
    note(number)
    if not os.environ.get("DEAF"): sys.exit(0)
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, hear)
note("listens")
time.sleep(600)
"""


class World:
    """A folder with stand-ins, first on the PATH of commands started here; no process outlives the context."""

    def __init__(self, folder: Path):
        self.folder, self._notes, self._started = folder, folder / "notes.jsonl", []
        (folder / "bin").mkdir()
        for name in NEVER:
            self.stand_in(name, "sys.exit('not to be called')")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self._started:
            with process:  # closes its pipes
                process.kill()

    def stand_in(self, name: str, code: str) -> Path:
        """A program that records its name and arguments, then runs `code`; {notes} in it is the file of records."""
        path = self.folder / "bin" / name
        code = code.replace("{notes}", repr(str(self._notes)))
        path.write_text(STAND_IN.format(python=sys.executable, notes=str(self._notes), code=code))
        path.chmod(0o755)
        return path

    def obedient(self) -> tuple[str, Callable[[], list[str]]]:
        """The code of a program that stops at a signal and records that it listens, and the signals."""
        heard = self.folder / "heard"
        return OBEDIENT.replace("FILE", repr(str(heard))), lambda: heard.read_text().split() if heard.exists() else []

    def training(self, code: str) -> str:
        """A Python that runs supervise.py unchanged, and `code` in place of vae_jax.main."""
        real = f"if words[0].startswith('launch/'): os.execv({sys.executable!r}, [{sys.executable!r}, *words])"
        return str(self.stand_in("python-stand-in", f"{real}\n{code}"))

    def asked(self, *names: str) -> list[list[str]]:
        """The calls of the stand-ins with these names, or of all, in order."""
        lines = self._notes.read_text().splitlines() if self._notes.is_file() else []
        return [words for words in map(json.loads, lines) if not names or words[0] in names]

    def trained(self) -> list[list[str]]:
        """The arguments of vae_jax.main, each time that it was started."""
        return [words[3:] for words in self.asked() if words[1:3] == ["-m", "vae_jax.main"]]

    def forget(self) -> None:
        """Clears the recorded calls."""
        self._notes.unlink()

    def start(self, *command: object, **environment: str) -> subprocess.Popen:
        """Starts a command in the repository's folder."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "DRY_RUN", "GPUS"))}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        here = {"HOME": str(self.folder / "home"), "PATH": path, "PYTHON": sys.executable}
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=kept | here | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess:
        """Runs a command in the repository's folder."""
        process = self.start(*command, **environment)
        output, errors = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def wait_until(condition: Callable[[], object]) -> None:
    """Polls a condition."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.05)
