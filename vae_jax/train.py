"""The training loop, the only one: it knows players and terms, and nothing of what they mean."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from vae_jax.config import check_config, flat
from vae_jax.data import examples_in_both, load_dataset
from vae_jax.data.contract import Dataset, FileList, fingerprint
from vae_jax.data.known_files import write_list
from vae_jax.data.membership import changes, files_before
from vae_jax.errors import UserError
from vae_jax.evaluate import make_judge
from vae_jax.reports.report import write_report
from vae_jax.runs.bucket import at_hand
from vae_jax.runs.checkpoint import Checkpoints
from vae_jax.runs.places import own_place
from vae_jax.runs.profile import Profile
from vae_jax.runs.progress import Progress
from vae_jax.runs.workdir import check_inputs, forget_after, note_run, open_workdir, write_text
from vae_jax.runtime.compilation import use_compilation_cache
from vae_jax.runtime.interrupt import Stop, Stopped, interruptibly, stop_requested
from vae_jax.runtime.processes import agreed, check_same_everywhere, from_first
from vae_jax.runtime.sharding import check_devices, make_mesh
from vae_jax.state import State, digest
from vae_jax.strict_json import to_json
from vae_jax.training import Training, prepare

Metrics = dict[str, Any]
FILES = "files_{}.npz"  # of the training images and those of the evaluation


class Options(NamedTuple):
    """What a start is told beside its config.

    profile: steps that are traced, see `runs.profile`. accept_new_data: whether a resumed run takes other images.
    """

    profile: int = 0
    accept_new_data: bool = False


def train(config: ConfigDict, workdir: str, options: Options | None = None) -> Metrics | None:
    """Trains what `config` says, or resumes `workdir`; returns the metrics, or None when stopped."""
    with stop_requested() as stop, contextlib.ExitStack() as held:
        try:
            return _train(config, workdir, options or Options(), stop, held)
        except Stopped:
            say("stopped; run the same command to resume")
            return None


def _train(
    config: ConfigDict, workdir: str, options: Options, stop: Stop, held: contextlib.ExitStack
) -> Metrics | None:
    started = time.perf_counter()
    check_config(config)
    check_devices()
    home = held.enter_context(at_hand(workdir))  # before the data are read
    use_compilation_cache(config.compilation_cache)
    check_same_everywhere(flat(config.to_dict()) | {"data.dir": "", "compilation_cache": ""})  # may differ by host
    stop.at_once = jax.process_count() == 1  # there is nothing to save yet; many processes would have to agree

    # ---- data, system, workdir -----------------------------------------------------------------------------------
    mesh = make_mesh(config.batch_size, config.accumulate)
    stopping = agreed(stop, mesh)
    before = {part: files_before(home.folder / FILES.format(part)) for part in ("train", "eval")}
    data = load_dataset(config, config.data.train, augmented=True, before=before["train"])
    eval_data = load_dataset(config, config.data.eval, before=before["eval"])
    size = "x".join(map(str, eval_data.image_shape))
    say(f"data: {config.data.name}, {data.size:,} images to train on, {eval_data.size:,} to evaluate, {size}")
    if both := examples_in_both(config, data, eval_data):
        say(f"warning: {both:,} of the {eval_data.size:,} images to evaluate are trained on as well: data.train is "
            f"{config.data.train!r}, data.eval is {config.data.eval!r}")  # fmt: skip
    training = prepare(config, data, mesh)
    folder = held.enter_context(open_workdir(home.folder, config))
    _check_inputs(folder, training, eval_data, before, options.accept_new_data)

    # ---- state, restored where there is one ----------------------------------------------------------------------
    checkpoints, frozen = Checkpoints(folder, config.keep_checkpoints, home.publish), training.place_frozen()
    held.callback(checkpoints.finish)
    state = _restored_or_first(folder, checkpoints, training)
    rules = training.experiment.system.rules
    terms = sorted({term for rule in rules.values() for term in rule})
    progress = Progress(folder, int(state.step), config, terms, checkpoints.saved)
    judge = make_judge(config, training.experiment, eval_data, mesh, own_place(folder), stop=stopping)

    def evaluate(state: State) -> Metrics | None:
        progress.check()
        say(f"     evaluating {eval_data.size:,} images")
        try:
            metrics, pictures = judge(state, frozen)
        except OSError as error:  # of a disk that is full
            if int(state.step) == config.steps:
                raise
            progress.judged = int(state.step)
            return say(f"warning: the evaluation of step {progress.judged:,} could not be written: {error}")
        progress.evaluation(metrics, pictures)
        return metrics

    # ---- steps, and the end or a stop ----------------------------------------------------------------------------
    with Profile(folder, options.profile) as trace:
        state = _take_steps(training, frozen, state, checkpoints, progress, trace, evaluate, stop, stopping)
    progress.check()
    checkpoints.save(state)
    if int(state.step) < config.steps or stopping():
        say(f"stopped; step {int(state.step):,} is saved: run the same command to resume")
        return None
    metrics = evaluate(state)
    if jax.process_index() == 0:
        say(f"report: {write_report(folder)}")
    if progress.seconds:
        taken = time.perf_counter() - started
        say(f"{taken:,.0f} s in all, {taken / progress.seconds:.2f} times the train steps alone")
    return metrics


def _take_steps(
    training: Training,
    frozen: Any,
    state: State,
    checkpoints: Checkpoints,
    progress: Progress,
    trace: Profile,
    evaluate: Callable[[State], Metrics | None],
    stop: Stop,
    stopping: Callable[[], bool],
) -> State:
    """The state after the last step, or after the one at which a stop was asked for."""
    config, step = training.config, int(state.step)
    if step == config.steps:
        stop.at_once = False
        return state
    training.hold_targets(frozen, say)
    key, lowered = training.step_key(), training.lower()
    say("compiling the train step")
    began = time.perf_counter()
    train_call = interruptibly(lowered.compile)
    say(f"compiled in {time.perf_counter() - began:.0f} s")

    # ---- evaluate what is due, call, log, save; a scalar that is not finite is an error before anything is saved ----
    stop.at_once = False
    alone = jax.process_count() == 1
    with contextlib.suppress(Stopped):  # from an evaluation, which the same command makes again, or a wait for images
        while step < config.steps and not stopping():
            if step % config.eval_every == 0 and step > progress.judged:
                evaluate(state)
                continue
            progress.start()
            with stop.raising(alone):
                batches = training.batches(step, config.steps_per_call)
            state, scalars = trace.run(step, config.steps_per_call, train_call, state, frozen, batches, key)
            progress.add(step, scalars)
            step += config.steps_per_call
            if step % config.log_every == 0 or step == config.steps:
                progress.log(step)
            if step % config.checkpoint_every == 0 and step != config.steps:
                progress.check()
                checkpoints.save_meanwhile(state)
    training.batches.close()
    return state


def _check_inputs(
    folder: Path, training: Training, eval_data: Dataset, before: Mapping[str, FileList | None], accept_new_data: bool
) -> None:
    """UserError where a resumed run, or another process, has other data or weights; notes what they are."""
    inputs = {
        "train": fingerprint(training.data),
        "eval": fingerprint(eval_data),
        "frozen weights": digest(training.frozen),
    }
    if training.data.classes:
        inputs["classes"] = list(training.data.classes)
    check_same_everywhere(inputs)
    files = {"train": training.data.files, "eval": eval_data.files}
    told = [f"{part}:\n{found}" for part in files if (found := changes(before[part], files[part]))]
    check_inputs(folder, inputs, accept_new_data, "\n".join(told))
    for part, listed in files.items():
        if listed is not None and (before[part] is None or told) and jax.process_index() == 0:
            write_list(folder / FILES.format(part), listed.names, listed.sizes[:, None])
    if jax.process_index() == 0 and (training.data.notes or eval_data.notes):
        notes = {"train": dict(training.data.notes), "eval": dict(eval_data.notes)}
        write_text(folder / "data_report.json", to_json(notes, indent=2) + "\n")


def _restored_or_first(folder: Path, checkpoints: Checkpoints, training: Training) -> State:
    """The newest state of the workdir, or the first one; records in the workdir that a run resumes from it."""
    state = from_first(checkpoints.restore, training.abstract_state())
    if state is None:
        state = training.first_state()
        checkpoints.try_out(state)  # no hour is lost to a place that cannot be written
        say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    else:
        say(f"resuming from step {int(state.step):,} of {folder}")
    step, steps = int(state.step), training.config.steps
    if step > steps:
        raise UserError(f"{folder} is at step {step:,} already, past steps ({steps:,}).")
    if jax.process_index() == 0:
        forget_after(folder / "scalars.jsonl", step)
        note_run(folder, step)
    return state


def say(text: str) -> None:
    """One process speaks for all."""
    if jax.process_index() == 0:
        print(text, flush=True)
