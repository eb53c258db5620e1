"""TensorBoard's curves of a run that goes back to an earlier step."""

import numpy as np

from vae_jax.runs.progress import Progress
from vae_jax.runs.workdir import read_lines


def curve(workdir) -> list[int]:
    import tensorflow as tf

    files = sorted((workdir / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime)
    assert all(file.name.startswith("events.out.tfevents.") for file in files)
    events = [tf.compat.v1.Event.FromString(record) for file in files
              for record in tf.data.TFRecordDataset([bytes(file)]).as_numpy_iterator()]  # fmt: skip
    return [event.step for event in events for value in event.summary.value if value.tag == "eval/psnr"]


def test_curves_have_every_step_once(tmp_path, smoke):
    """As in scalars.jsonl, what is later than the step that a run resumes from is dropped."""
    workdir = tmp_path / "[run] *\udcf6"
    workdir.mkdir()
    picture = {"recon": np.zeros((4, 4, 3), np.uint8)}
    for start, steps in ((0, (4, 8, 12)), (8, (12, 16)), (12, (16,))):
        progress = Progress(workdir, start, smoke("vae_mnist"), [], list)
        assert curve(workdir) == [step for step in (4, 8, 12) if step <= start]
        for step in steps:
            progress.evaluation({"step": step, "psnr": float(step)}, picture)
    assert curve(workdir) == [4, 8, 12, 16]
    assert [record["step"] for record in read_lines(workdir / "scalars.jsonl")] == [4, 8, 12, 12, 16, 16]
    newest = max((workdir / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-5])  # killed while writing
    Progress(workdir, 4, smoke("vae_mnist"), [], list)
    assert curve(workdir) == [4]
