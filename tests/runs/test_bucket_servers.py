"""A workdir in a bucket, as commands: against servers of both protocols, and one that gives no rights, with faults."""

import contextlib
import http.server
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from helpers.commands import assert_mistake, run
from helpers.processes import TINY, assert_same_state, finish, rest_of, start, wait_for

from vae_jax.inference import load_model
from vae_jax.runs.bucket import at_hand

fsspec = pytest.importorskip("fsspec")

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def server(*command: str, url: str):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError(f"{command} never answered")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["s3", "gs"])
def there(request, monkeypatch):
    """The address of an empty bucket of a server on this machine."""
    port = free_port()
    url, scripts = f"http://127.0.0.1:{port}", Path(sys.executable).parent
    fsspec.core.url_to_fs("memory://x")[0].clear_instance_cache()
    if request.param == "s3":
        pytest.importorskip("moto"), pytest.importorskip("s3fs")
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)
        with server(str(scripts / "moto_server"), "-H", "127.0.0.1", "-p", str(port), url=url):
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir("data")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            yield "s3://data"
    else:
        pytest.importorskip("gcp_storage_emulator"), pytest.importorskip("gcsfs")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        command = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=data"]
        with server(str(scripts / "gcp-storage-emulator"), *command, url=url):
            fsspec.get_filesystem_class("gs").clear_instance_cache()
            yield "gs://data"


def test_a_run_in_a_bucket(there, tmp_path):
    """Trained, judged again and loaded from there: equal to a run on disk, and no trace of the folder in between."""
    address = f"{there}/a run/1"
    told = finish(address)
    assert f"report: {address}/report.html" in told and "vae_jax-" not in told
    finish(tmp_path / "run")
    with at_hand(address, writing=False) as copied:
        there_now = {str(path.relative_to(copied.folder)) for path in copied.folder.rglob("*") if path.is_file()}
        assert_same_state(copied.folder, tmp_path / "run")
        texts = [(copied.folder / name).read_text() for name in ("config.json", "runs.jsonl", "eval/metrics.json")]
    here = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    kept = {name for name in here if not name.startswith(("tensorboard/", "checkpoints/")) and name != "lock"}
    assert kept <= there_now and "checkpoints/manifests/8.json" in there_now
    assert all("vae_jax-" not in text for text in texts)
    judged = run("vae_jax.evaluate", f"--workdir={address}", "--metrics=ssim")
    assert judged.returncode == 0, judged.stderr
    assert f"wrote {address}/eval/metrics.json" in judged.stdout
    with at_hand(address, writing=False) as copied:
        assert "ssim" in json.loads((copied.folder / "eval/metrics.json").read_text())
    assert load_model(address).latent_shape == load_model(tmp_path / "run").latent_shape


class NoRights(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does where a key may not do what is asked: it may look, or not even that."""

    protocol_version = "HTTP/1.1"  # a PUT waits for its "100 Continue"
    may_look = False

    def do_GET(self) -> None:
        self.answer(self.may_look)

    do_HEAD, do_PUT, do_POST = do_GET, lambda self: self.answer(False), lambda self: self.answer(False)

    def answer(self, may: bool) -> None:
        nothing = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
        denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        missing = b"<Error><Code>NoSuchKey</Code><Message>No such key</Message></Error>"
        listing = "list-type" in self.path
        status, body = (200, nothing) if may and listing else (404, missing) if may else (403, denied)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.mark.parametrize("may_look, words", [(False, "cannot be read"), (True, "cannot be written")])
def test_no_rights(may_look, words, monkeypatch):
    """Told before anything is trained, with what to do."""
    pytest.importorskip("s3fs")
    monkeypatch.setattr(NoRights, "may_look", may_look)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoRights) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{one.server_port}"}).items():
            monkeypatch.setenv(name, value)
        result = run("vae_jax.main", "--workdir=s3://data/run", *TINY)
        one.shutdown()
    assert_mistake(result, f"s3://data/run {words}", "Access Denied", "your rights")


def test_no_such_bucket(there):
    lost = there.replace("data", "nowhere") + "/run"
    result = run("vae_jax.main", f"--workdir={lost}", *TINY)
    assert_mistake(result, lost, "such bucket" if lost.startswith("s3") else "cannot be", "Check the address")


@pytest.mark.slow
def test_killed_at_random_times(there, tmp_path):
    """Also in the middle of a save: the next run waits for a sign of life, goes on, and ends the same."""
    address, seconds, often = f"{there}/run", random.Random(0), ("--config.checkpoint_every=1", "--config.steps=100000")
    for _ in range(2):
        process = start(address, *often)
        wait_for(process, "images/s")
        time.sleep(seconds.uniform(0, 2))
        process.kill()
        with process:
            process.stdout.read()
    process = start(address, *often)
    told = wait_for(process, "resuming from step") + wait_for(process, "images/s")
    assert "waiting 60 s for a sign of life" in told
    process.terminate()
    reached = int(rest_of(process).rpartition("stopped; step ")[2].partition(" ")[0].replace(",", ""))
    finish(tmp_path / "whole", f"--config.steps={reached}", "--config.eval_every=1000")
    with at_hand(address, writing=False) as copied:
        assert_same_state(copied.folder, tmp_path / "whole")


@pytest.mark.slow
def test_a_bucket_that_goes_away(tmp_path, monkeypatch):
    """Three failed saves end the run, what it has written is still here, and the message says where."""
    pytest.importorskip("moto"), pytest.importorskip("s3fs")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": url, "TMPDIR": str(tmp_path), "AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    with server(str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port), url=url):
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("data")
        process = start("s3://data/run", "--config.checkpoint_every=1", "--config.steps=100000")
        wait_for(process, "images/s")
    told = rest_of(process, 2)
    assert told.count("warning: The checkpoint of step") == 2 and "3 consecutive saves failed" in told
    assert "s3://data/run/" in told and "cannot be written" in told
    left = Path(told.rpartition("What this run has written is in ")[2].partition(". Copy it")[0])
    assert left.is_relative_to(tmp_path) and (left / "config.json").is_file()
    assert os.listdir(left / "checkpoints" / "manifests")
