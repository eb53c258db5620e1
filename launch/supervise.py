#!/usr/bin/env python3
"""Keeps the processes of one host running: starts them, and restarts all of them when one fails.

    launch/supervise.py [--processes=N] [--restarts=10] [--backoff=5] [--settle=15] [--dry-run] -- COMMAND ...

With --processes=N the command is started N times, each with its own --coordinator, --num_processes and --process_id;
without, once and unchanged. When a process fails, the others have `settle` seconds to exit and are then killed; all
restart after a pause, which doubles from `backoff` seconds to five minutes. The supervisor gives up after `restarts`
restarts without an hour of running in between. A command that exits by itself within a minute of its first start, such
as one that lacks a Python module, is not restarted: it was never able to run.

SIGINT, SIGTERM and SIGHUP are passed on, so that the run saves and exits, and nothing is restarted.

Exit codes: 0, the command succeeded; 2, a user error of vae_jax, which a restart cannot fix, or no such command; 128 +
number, stopped by a signal; otherwise that of the process that failed last.

Checked by tests/launch/test_supervise.py, and with trainings on a CPU by tests/runtime/test_processes.py. Needs only
Python.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

MISTAKE = 2
SIGNALLED = 128  # added to a signal's number, as shells do
LONGEST_PAUSE = 300.0  # seconds; less than processes wait for each other, vae_jax.runtime.processes.CONNECT_SECONDS
QUICK = 60.0  # seconds from the first start in which a failure is not one of the machine
LASTING = 3600.0  # seconds of running after which earlier failures are forgotten
SAME = 2.0  # seconds within which two signals count as one: Ctrl-C reaches both a script and what it started
POLL = 0.1

received: list[tuple[int, float]] = []  # signals and when they came


def commands(command: list[str], processes: int) -> list[list[str]]:
    """The command line of each process."""
    if processes == 1:
        return [command]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    return [[*command, where, f"--num_processes={processes}", f"--process_id={i}"] for i in range(processes)]


def listen(number: int, frame: object) -> None:
    """Records a signal, for `pass_on`."""
    now = time.monotonic()
    if not received or now - received[-1][1] > SAME:
        received.append((number, now))


def pass_on(running: list[subprocess.Popen], done: int) -> int:
    """Passes the signals after the first `done` on to the processes that still run; the new `done`."""
    for number, _ in received[done:]:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
    return len(received)


def attempt(lines: list[list[str]], settle: float) -> list[int]:
    """Runs one process per command line until all have ended; their exit codes, negative after a signal."""
    try:
        running = [subprocess.Popen(line, start_new_session=True) for line in lines]  # Ctrl-C is for the supervisor
    except OSError as error:
        say(f"cannot start {lines[0][0]}: {error.strerror}")
        return [MISTAKE]
    say(f"started {', '.join(str(process.pid) for process in running)}")
    passed, failed = 0, None
    while any(process.poll() is None for process in running):
        passed = pass_on(running, passed)
        codes = [process.poll() for process in running]
        if failed is None and any(codes):
            failed = time.monotonic()
            say(f"process {next(i for i, code in enumerate(codes) if code)} exited with {next(filter(None, codes))}")
        if failed is not None and time.monotonic() - failed > settle:
            for i, process in enumerate(running):
                if process.poll() is None:
                    say(f"killing process {i}, which did not exit within {settle:g} s")
                    process.kill()
        time.sleep(POLL)
    codes, ended = [process.returncode for process in running], time.monotonic()
    if any(codes):  # all may have exited since the last poll
        seconds = ended - (failed or ended)
        say(f"all exited within {seconds:.1f} s of the first, with {', '.join(map(str, codes))}")
    return codes


def supervise(command: list[str], processes: int, restarts: int, backoff: float, settle: float) -> int:
    """Runs the command until it succeeds, is stopped, or has failed too often; the supervisor's exit code."""
    failures, pause, first = 0, backoff, True
    while True:
        began = time.monotonic()
        codes = attempt(commands(command, processes), settle)
        if received:
            return SIGNALLED + received[0][0]
        if not any(codes):
            return 0
        if MISTAKE in codes:
            say("not restarting: exit code 2 is a mistake, which the message above tells")
            return MISTAKE
        lasted = time.monotonic() - began
        if first and lasted < QUICK and all(0 <= code < SIGNALLED for code in codes):
            say(f"not restarting: it failed by itself after {lasted:.0f} s; what it printed says why")
            return max(codes)
        first = False
        if lasted > LASTING:
            failures, pause = 0, backoff
        failures += 1
        if failures > restarts:
            say(f"giving up after {failures} failures")
            return max(codes) if max(codes) > 0 else SIGNALLED - min(codes)
        say(f"restarting in {pause:g} s, {failures} of {restarts}")
        until = time.monotonic() + pause
        while time.monotonic() < until and not received:
            time.sleep(POLL)
        if received:
            return SIGNALLED + received[0][0]
        pause = min(2 * pause, LONGEST_PAUSE)


def say(text: str) -> None:
    """One line for the log."""
    print(f"supervise: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(usage=__doc__.strip().split("\n\n")[1].strip(), allow_abbrev=False)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--backoff", type=float, default=5.0)
    parser.add_argument("--settle", type=float, default=15.0)
    parser.add_argument("--dry-run", action="store_true", default=bool(os.environ.get("DRY_RUN")))
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.dry_run:
        for line in commands(options.command, options.processes):
            print(shlex.join(line))
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, listen)
    return supervise(options.command, options.processes, options.restarts, options.backoff, options.settle)


if __name__ == "__main__":
    sys.exit(main())
