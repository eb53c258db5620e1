#!/usr/bin/env bash
# Trains on a TPU VM with one machine: makes the VM, installs vae_jax on it, starts or attaches to the training.
#
#   TPU=NAME ZONE=ZONE ACCELERATOR=v5litepod-8 RUNTIME=v2-alpha-tpuv5-lite [PROJECT=ID] [SPOT=1] [BEFORE=COMMAND] \
#     [RESTARTS=10] [DRY_RUN=1] launch/tpu_vm.sh --config=configs/NAME.py --workdir=DIR [--config.KEY=VALUE ...]
#
# To be run where gcloud is logged in. The same command again does what is left: a VM that was preempted is made anew,
# one that is there is used, a training that goes on is shown, any other is resumed; Ctrl-C leaves it running. Paths
# are those of the VM, relative to ~/vae_jax. Its disk goes with it: for a VM that may be preempted mount a folder
# that stays with BEFORE, a command that each start runs first, such as 'mountpoint -q ~/runs || sudo mount
# 10.0.0.2:/runs ~/runs', and name a --workdir in it. INSTALL replaces the installation, which fetches Python 3.12
# with uv.
# Stop: gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --command='kill $(cat vae_jax/.launch/pid)'; it saves first.
#
# Checked by tests/launch/test_launch_tpu.py: the dry run, and all steps with a gcloud that only writes down what it is asked
# and runs the ssh commands on this host. Options are those of gcloud's reference pages (2025-10). Not checked:
# gcloud, any TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh
WORKER=0 EXAMPLE=v5litepod-8
source launch/tpu.sh

there
send
train "$@"
