"""launch/supervise.py: what it restarts and what not, and how signals reach its processes."""

import os
import signal
import sys
import time

import pytest
from helpers.checks import ROOT
from helpers.stand_ins import SECONDS, World, wait_until

SUPERVISE = [sys.executable, ROOT / "launch" / "supervise.py", "--backoff=0.1"]


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


def test_it_restarts_until_the_command_succeeds(world):
    ends = ("os.kill(os.getpid(), 9)", "sys.exit(1)", "pass")
    command = world.stand_in("counted", f"exec({ends!r}[sum(1 for _ in open({{notes}})) - 1])")
    result = world.run(*SUPERVISE, "--", command, "two words")
    assert result.returncode == 0, result.stderr
    assert world.asked() == [["counted", "two words"]] * 3
    assert "restarting in 0.1 s, 1 of 10" in result.stderr and "restarting in 0.2 s, 2 of 10" in result.stderr


def test_it_gives_up(world):
    failing = world.stand_in("failing", "os.abort()")
    result = world.run(*SUPERVISE, "--restarts=2", "--", failing)
    assert result.returncode == 128 + signal.SIGABRT and "giving up after 3 failures" in result.stderr
    assert len(world.asked("failing")) == 3


def test_a_user_error_is_not_retried(world):
    """Exit code 2, from any process, even if another one failed first because of it."""
    code = "time.sleep(1) if '--process_id=0' in words else sys.exit(1)\nsys.exit(2)"
    result = world.run(*SUPERVISE, "--processes=2", "--", world.stand_in("mistaken", code))
    assert result.returncode == 2 and len(world.asked("mistaken")) == 2


@pytest.mark.parametrize("processes", ["--processes=1", "--processes=2"])
def test_what_never_ran_is_not_retried(world, processes):
    """As where a Python module is missing: an exit code of its own, within seconds of the first start."""
    result = world.run(*SUPERVISE, processes, "--", world.stand_in("without", "import no_such_module"))
    assert result.returncode == 1 and "not restarting: it failed by itself after" in result.stderr
    assert "No module named 'no_such_module'" in result.stderr
    assert len(world.asked("without")) == int(processes[-1])


def test_a_command_that_does_not_exist(world):
    result = world.run(*SUPERVISE, "--", "no/such/python", "-m", "vae_jax.main")
    assert result.returncode == 2 and "cannot start no/such/python: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr


def test_when_one_fails_all_restart(world):
    """Process 1 fails at once; process 0 would sleep forever and is killed; both restart, with a shared port."""
    code = """
again = sum(1 for _ in open({notes})) > 2
if not again: sys.exit(1) if "--process_id=1" in words else time.sleep(1000)"""
    result = world.run(*SUPERVISE, "--processes=2", "--settle=1", "--", world.stand_in("pair", code))
    assert result.returncode == 0, result.stderr
    assert "killing process 0, which did not exit within 1 s" in result.stderr
    asked = world.asked("pair")
    assert sorted(words[-1] for words in asked) == 2 * ["--process_id=0"] + 2 * ["--process_id=1"]
    coordinators = [words[1] for words in asked]
    assert len(set(coordinators[:2])) == len(set(coordinators[2:])) == 1


@pytest.mark.parametrize("number, passed", [(signal.SIGINT, "2"), (signal.SIGTERM, "15"), (signal.SIGHUP, "15")])
def test_signals_are_passed_on_and_nothing_restarts(world, number, passed):
    code, heard = world.obedient()
    process = world.start(*SUPERVISE, "--", world.stand_in("obedient", code))
    wait_until(heard)
    process.send_signal(number)
    assert process.wait(SECONDS) == 128 + number
    assert heard() == ["listens", passed] and len(world.asked("obedient")) == 1


def test_a_stop_that_arrives_twice_and_a_second_one(world):
    """Ctrl-C, and what a script's trap sends right after it, are one signal; a later one is a second."""
    code, heard = world.obedient()
    process = world.start(*SUPERVISE, "--", world.stand_in("deaf", code), DEAF="1")
    wait_until(heard)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: len(heard()) > 1)
    time.sleep(2.5)
    assert heard() == ["listens", "2"]
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: heard() == ["listens", "2", "15"])
    os.kill(int(process.stderr.readline().rpartition(" ")[2]), signal.SIGKILL)  # supervise: started PID
    assert process.wait(SECONDS) == 128 + signal.SIGINT


def test_a_signal_before_a_restart(world):
    process = world.start(*SUPERVISE, "--backoff=100", "--", world.stand_in("failing", "os.kill(os.getpid(), 9)"))
    for line in process.stderr:
        if "restarting in 100 s" in line:
            break
    process.terminate()
    assert process.wait(SECONDS) == 143 and len(world.asked("failing")) == 1
