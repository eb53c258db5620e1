"""The training loop, the only one: it knows players and terms, and nothing of what they mean."""

import contextlib
import json
import time
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from vae_jax.config import check_config, flat
from vae_jax.data import load_dataset
from vae_jax.data.contract import fingerprint
from vae_jax.data.pipeline import TrainBatches
from vae_jax.errors import UserError
from vae_jax.evaluate import make_judge
from vae_jax.experiment import abstract_state, check_shapes, make_experiment
from vae_jax.reports.report import write_report
from vae_jax.runs.checkpoint import Checkpoints
from vae_jax.runs.progress import Progress
from vae_jax.runs.workdir import check_inputs, forget_after, note_run, open_workdir, write_text
from vae_jax.runtime.compilation import use_compilation_cache
from vae_jax.runtime.interrupt import Stop, Stopped, interruptibly, stop_requested
from vae_jax.runtime.processes import agreed, check_same_everywhere, from_first
from vae_jax.runtime.rngs import root_key
from vae_jax.runtime.sharding import make_mesh, place, replicated
from vae_jax.state import digest
from vae_jax.targets import cache_targets, expect_targets
from vae_jax.train_step import make_train_call, make_train_step, scan_unroll


def train(config: ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Trains what `config` says, or goes on where `workdir` stands; returns the metrics, or None when stopped."""
    with stop_requested() as stop, contextlib.ExitStack() as held:
        try:
            return _train(config, workdir, stop, held)
        except Stopped:
            say("stopped, and nothing is lost by it; the same command goes on from there")
            return None


def _train(config: ConfigDict, workdir: str, stop: Stop, held: contextlib.ExitStack) -> dict[str, Any] | None:
    started = time.perf_counter()
    check_config(config)
    use_compilation_cache(config.compilation_cache)
    writer = jax.process_index() == 0
    check_same_everywhere(
        flat(config.to_dict()) | {"data.dir": "", "compilation_cache": ""}
    )  # may be others on each host
    stop.at_once = jax.process_count() == 1  # there is nothing to save yet; many processes would have to agree

    # ---- mesh ----------------------------------------------------------------------------------------------------
    mesh = make_mesh(config.batch_size)
    stopping = agreed(stop, mesh)

    # ---- data ----------------------------------------------------------------------------------------------------
    data = load_dataset(config, config.data.train, augmented=True)
    eval_data = load_dataset(config, config.data.eval)
    batches = TrainBatches(data, config.seed, config.batch_size, mesh)
    say(
        f"data: {config.data.name}, {data.size:,} images to learn from, {eval_data.size:,} to be judged on, "
        f"{'x'.join(map(str, eval_data.image_shape))}"
    )

    # ---- system --------------------------------------------------------------------------------------------------
    labelled = "label" in data.read(np.arange(1))
    experiment = make_experiment(config, eval_data.image_shape, labelled)
    frozen = experiment.system.frozen()
    if config.backbone.cache_targets:
        experiment = expect_targets(config, experiment, frozen, data)
    check_shapes(config, experiment, frozen)
    workdir = held.enter_context(open_workdir(workdir, config))
    inputs = {"train": fingerprint(data), "eval": fingerprint(eval_data), "frozen weights": digest(frozen)}
    check_same_everywhere(inputs)
    check_inputs(workdir, inputs)
    frozen = place(frozen, replicated(mesh))
    if writer and (data.notes or eval_data.notes):
        notes = {"train": dict(data.notes), "eval": dict(eval_data.notes)}
        write_text(workdir / "data_report.json", json.dumps(notes, indent=2) + "\n")

    # ---- state, restored where there is one ----------------------------------------------------------------------
    checkpoints = Checkpoints(workdir, config.keep_checkpoints)
    state = from_first(checkpoints.restore, abstract_state(experiment, mesh))
    if state is None:
        state = jax.jit(experiment.init, out_shardings=replicated(mesh))(experiment.system.pretrained())
        say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    else:
        say(f"going on from step {int(state.step):,} of {workdir}")
    step = int(state.step)
    if step > config.steps:
        raise UserError(f"{workdir} is at step {step:,} already, past steps ({config.steps:,}).")
    if writer:
        forget_after(workdir / "scalars.jsonl", step)
        note_run(workdir, step)

    # ---- functions -----------------------------------------------------------------------------------------------
    train_step = make_train_step(experiment.system, experiment.optimizers, config.ema, experiment.augment, config.remat)
    train_call = make_train_call(train_step, scan_unroll(config.steps_per_call))
    judge = make_judge(config, experiment, eval_data, mesh, workdir, stop=stopping)
    step_key = jax.jit(lambda: root_key(config.seed, "step"), out_shardings=replicated(mesh))()
    terms = sorted({term for rule in experiment.system.rules.values() for term in rule})
    progress = Progress(workdir, step, config, terms)

    def evaluate(state) -> dict[str, Any] | None:
        progress.check()
        say(f"     judging {eval_data.size:,} images")
        try:
            metrics, pictures = judge(state, frozen)
        except OSError as error:  # of a disk that is full
            if step == config.steps:
                raise
            progress.judged = step
            return say(f"warning: the evaluation of step {step:,} could not be written: {error}")
        progress.evaluation(metrics, pictures)
        return metrics

    # ---- compile -------------------------------------------------------------------------------------------------
    if step < config.steps:
        if config.backbone.cache_targets:
            batches.feed.hold(cache_targets(experiment, frozen, batches.feed, data.size, mesh, say))
        say("compiling the train step")
        began = time.perf_counter()
        lowered = train_call.lower(state, frozen, batches(step, config.steps_per_call), step_key)
        train_call = interruptibly(lowered.compile)
        say(f"compiled in {time.perf_counter() - began:.0f} s")

    # ---- steps: evaluate what is due, call, log, save; an error in a scalar comes before anything is saved -----------
    stop.at_once = False
    with contextlib.suppress(Stopped):  # from an evaluation, which the same command makes again
        while step < config.steps and not stopping():
            if step % config.eval_every == 0 and step > progress.judged:
                evaluate(state)
                continue
            progress.start()
            state, scalars = train_call(state, frozen, batches(step, config.steps_per_call), step_key)
            progress.add(step, scalars)
            step += config.steps_per_call
            if step % config.log_every == 0 or step == config.steps:
                progress.log(step)
            if step % config.checkpoint_every == 0 and step != config.steps:
                progress.check()
                checkpoints.save_or_warn(state)

    # ---- the end, or a stop --------------------------------------------------------------------------------------
    progress.check()
    checkpoints.save(state)
    if step < config.steps or stopping():
        say(f"stopped at step {step:,} and saved; the same command goes on from there")
        return None
    metrics = evaluate(state)
    if writer:
        say(f"report: {write_report(workdir)}")
    if progress.seconds:
        taken = time.perf_counter() - started
        say(f"{taken:,.0f} s from start to end, {taken / progress.seconds:.2f} times those of the train steps alone")
    return metrics


def say(text: str) -> None:
    """One process speaks for all."""
    if jax.process_index() == 0:
        print(text, flush=True)
