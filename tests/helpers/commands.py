"""Run commands as users do, and check their error messages."""

import subprocess
import sys

from helpers.checks import ROOT


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)


def assert_mistake(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr + result.stdout
    assert "compil" not in result.stdout
    for word in words:
        assert word in result.stderr
