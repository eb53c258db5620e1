"""Whether runs have the same data, by the sums that their workdirs recorded; earlier versions recorded none."""

from collections.abc import Mapping, Sequence
from typing import Any

from vae_jax.errors import UserError
from vae_jax.inference import Run
from vae_jax.runs.places import agree


def check_same_images(workdirs: Sequence[str], runs: Sequence[Run]) -> None:
    """UserError, with the names of both, if two runs were judged on different images in their trainings."""
    known = [(workdir, run) for workdir, run in zip(workdirs, runs, strict=True) if "eval" in run.inputs]
    for workdir, run in known[1:]:
        first_workdir, first = known[0]
        if not agree(_of_images(first.inputs["eval"]), _of_images(run.inputs["eval"])):
            raise UserError(
                f"{first_workdir} and {workdir} cannot be compared: their data are different images, "
                f"{_described(first, 'eval')} and {_described(run, 'eval')}, by the sums in their inputs.json. Judge "
                "both on one folder with --data_dir."
            )


def other_training_data(workdirs: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """A sentence for each run that learnt from other images than the first one."""
    known = [(workdir, run) for workdir, run in zip(workdirs, runs, strict=True) if "train" in run.inputs]
    return [
        f"{workdir} was trained on {_described(run, 'train')}, {known[0][0]} on {_described(known[0][1], 'train')}: "
        "different images, or different sizes of them."
        for workdir, run in known[1:]
        if not agree(_of_images(known[0][1].inputs["train"]), _of_images(run.inputs["train"]))
    ]


def _of_images(sums: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sums.items() if "label" not in key}


def _described(run: Run, part: str) -> str:
    data = run.config.data
    return f"{run.inputs[part]['images']:,} of {data.dir or data.name}, split {data[part]}"
