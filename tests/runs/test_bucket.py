"""A workdir in a bucket: the copy, its order and its lock, in fsspec's memory."""

import tempfile
import time
from pathlib import Path

import pytest

from vae_jax.errors import UserError
from vae_jax.runs import bucket
from vae_jax.runs.bucket import LOCK, at_hand

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """An empty fsspec.filesystem('memory'), which is this process's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


def names(files, root="/b/run"):
    return sorted(path.removeprefix(root + "/") for path in files.find(root))


def write(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


# ---- the copy and its order ----------------------------------------------------------------------------------------


def test_a_folder_of_this_machine_is_itself(tmp_path):
    with at_hand(tmp_path / "x") as run:
        assert run.folder == tmp_path / "x" and run.publish() is None


def test_what_changes_here_changes_there(memory, capsys):
    with at_hand("memory://b/run/") as run:
        print("written to", run.folder / "a.txt")
        write(run.folder, "a.txt", "1")
        write(run.folder, "deep/ä [b].txt", "2")
        write(run.folder, "lock", "the folder's own")
        write(run.folder, "c.json.tmp", "half")
        run.publish()
        assert memory.cat("/b/run/lock") != b"the folder's own"
        write(run.folder, "a.txt", "3")
        (run.folder / "deep/ä [b].txt").unlink()
        first = run.folder
    assert names(memory) == ["a.txt"] and memory.cat("/b/run/a.txt") == b"3"
    assert not first.exists() and not first.parent.exists()
    with at_hand("memory://b/run", writing=False) as run:
        assert (run.folder / "a.txt").read_text() == "3"
        write(run.folder, "a.txt", "only read")
    assert memory.cat("/b/run/a.txt") == b"3"
    told = capsys.readouterr().out
    assert "written to memory://b/run/a.txt" in told and "reading memory://b/run: 1 files" in told


def test_a_checkpoint_counts_when_its_manifest_is_there(memory, monkeypatch):
    """The manifest goes last; without it the step is not read, and is removed by the next run, with the old ones."""
    put, sent = memory.put_file, []

    def failing(file, path, **options):
        if path.endswith("checkpoints/manifests/2.json"):
            raise PermissionError("no more")
        sent.append(path)
        return put(file, path, **options)

    with at_hand("memory://b/run") as run:
        write(run.folder, "checkpoints/1/array", "one")
        write(run.folder, "checkpoints/manifests/1.json", "{}")
        run.publish()
        monkeypatch.setattr(type(memory), "put_file", lambda self, *a, **k: failing(*a, **k))
        for file in ("checkpoints/1/array", "checkpoints/manifests/1.json"):
            (run.folder / file).unlink()
        write(run.folder, "checkpoints/2/array", "two")
        write(run.folder, "checkpoints/manifests/2.json", "{}")
        write(run.folder, "scalars.jsonl", "{}")
        with pytest.raises(UserError, match="memory://b/run/checkpoints/manifests/2.json cannot be written: no more"):
            run.publish()
        assert sent == ["/b/run/checkpoints/2/array", "/b/run/scalars.jsonl"]
        assert "checkpoints/manifests/1.json" in names(memory)  # the older one is still whole
        monkeypatch.undo()
        run.folder.rename(run.folder.with_name("lost"))  # the machine is gone
        run.folder.mkdir()
        monkeypatch.setattr(bucket.Copy, "publish", lambda self: None)
    monkeypatch.undo()
    with at_hand("memory://b/run") as run:
        found = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
        assert found == ["1", "manifests"]
    assert names(memory) == ["checkpoints/1/array", "checkpoints/manifests/1.json", "scalars.jsonl"]


def test_a_checkpoint_is_read_back(memory, monkeypatch):
    cat = memory.cat_file
    with at_hand("memory://b/run") as run:
        write(run.folder, "checkpoints/1/array", "one")
        monkeypatch.setattr(type(memory), "cat_file", lambda self, path, **k: cat(path, **k) + b"?")
        with pytest.raises(UserError, match="checkpoints/1/array cannot be written: other bytes were read back"):
            run.publish()
        monkeypatch.undo()


def test_nothing_is_lost_if_the_end_cannot_be_written(memory, monkeypatch):
    message = "What this run has written is in (.*/run). Copy it to memory://b/run"
    with pytest.raises(UserError, match=message) as told, at_hand("memory://b/run") as run:
        write(run.folder, "a.txt", "1")
        monkeypatch.setattr(type(memory), "put_file", lambda *_, **__: 1 / 0)
    assert (run.folder / "a.txt").read_text() == "1" and str(run.folder) in str(told.value)


def test_an_error_names_the_address(memory, capsys, monkeypatch):
    with pytest.raises(UserError, match="^memory://b/run/x is bad$"), at_hand("memory://b/run") as run:
        write(run.folder, "a.txt", "1")
        raise UserError(f"{run.folder}/x is bad")
    assert names(memory) == ["a.txt"]  # it is published all the same
    with pytest.raises(UserError, match="^bad$"), at_hand("memory://b/run") as run:
        write(run.folder, "b.txt", "1")
        monkeypatch.setattr(type(memory), "put_file", lambda *_, **__: 1 / 0)
        raise UserError("bad")
    assert "error: memory://b/run/b.txt cannot be written: division by zero" in capsys.readouterr().err


# ---- the lock ------------------------------------------------------------------------------------------------------


def test_a_run_that_lives_keeps_others_out(memory, monkeypatch, capsys):
    monkeypatch.setattr(bucket, "RENEWED", 0.2)
    monkeypatch.setattr(bucket, "ABANDONED", 5.0)
    with at_hand("memory://b/run"):
        message = "memory://b/run is in use by another run: process"
        with pytest.raises(UserError, match=message), at_hand("memory://b/run"):
            pass
        assert LOCK in names(memory)
    assert "waiting 5 s for a sign of life" in capsys.readouterr().out
    assert names(memory) == []


def test_a_run_that_is_gone_is_taken_over(memory, monkeypatch):
    """And should it still live, it says so and writes nothing more."""
    monkeypatch.setattr(bucket, "RENEWED", 0.2)
    monkeypatch.setattr(bucket, "ABANDONED", 1.0)
    memory.pipe_file("/b/run/lock", b"process 1 on a machine that is gone")
    with at_hand("memory://b/run") as run:
        memory.pipe_file("/b/run/lock", b"process 2 elsewhere")
        time.sleep(1)
        with pytest.raises(UserError, match="was taken over by another run, process 2 elsewhere"):
            run.publish()
        monkeypatch.setattr(bucket.Copy, "publish", lambda self: None)
    assert memory.cat("/b/run/lock") == b"process 2 elsewhere"


def test_without_its_package(monkeypatch):
    monkeypatch.setattr(bucket.importlib.util, "find_spec", lambda name: None)
    message = r"needs the package s3fs.*pip install 'vae_jax\[buckets\]'"
    with pytest.raises(UserError, match=message), at_hand("s3://b/run"):
        pass


def test_an_address_without_a_bucket():
    with pytest.raises(UserError, match="s3:// names no bucket; expected an address such as s3://BUCKET/RUN"):
        bucket.Copy("s3://")
