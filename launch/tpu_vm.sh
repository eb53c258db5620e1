#!/usr/bin/env bash
# Trains on a TPU VM with one machine: creates the VM, installs vae_jax on it, starts the training or attaches to it.
#
#   TPU=NAME ZONE=ZONE ACCELERATOR=v5litepod-8 RUNTIME=v2-alpha-tpuv5-lite [PROJECT=ID] [SPOT=1] [BEFORE=COMMAND] \
#     [PLAN=v5e:2x4] [RESTARTS=10] [DRY_RUN=1] launch/tpu_vm.sh --config=NAME --workdir=gs://BUCKET/RUN \
#     [--config.KEY=VALUE ...]
#
# Run it where gcloud is logged in. Run the same command again to continue: a preempted VM is recreated, an existing one
# is used, an active training is shown, any other is resumed; Ctrl-C leaves it running. Paths are on the VM, relative to
# ~/vae_jax. The disk is lost with the VM, so the workdir belongs in a bucket that the VM's service account may write.
# PLAN first compiles the training here for such a slice (python -m vae_jax.plan) and creates nothing if it does not
# fit. BEFORE is a command that each start runs first, such as one that mounts the data. INSTALL replaces the
# installation, which gets Python 3.12 with uv.
# To stop and save: gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --command='kill $(cat vae_jax/.launch/pid)'
#
# Checked by tests/launch/test_launch_tpu.py: the dry run, and all steps with a gcloud that records its arguments and
# runs the ssh commands on this host. Options are those of gcloud's reference pages (2025-10). Not checked: gcloud, a
# real TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh
WORKER=0 EXAMPLE=v5litepod-8
source launch/tpu.sh

checked "$@"
planned "$@"
there
send
train "$@"
