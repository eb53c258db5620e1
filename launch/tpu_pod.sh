#!/usr/bin/env bash
# Trains on a TPU slice of several machines: the same as tpu_vm.sh, on all of them at once.
#
#   TPU=NAME ZONE=ZONE ACCELERATOR=v5litepod-32 RUNTIME=v2-alpha-tpuv5-lite [...] [DRY_RUN=1] launch/tpu_pod.sh \
#     --config=NAME --workdir=gs://BUCKET/RUN [--config.KEY=VALUE ...]
#
# Settings are as in tpu_vm.sh. Every machine runs one process; they find each other (--distributed=auto). When one of
# them fails, all end, and the supervisor of each machine restarts its own. Only process 0 uses the workdir, which has
# to outlive the machines. The data has to be on every machine.
# To stop and save: gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=0 \
#   --command='kill $(cat vae_jax/.launch/pid)'
#
# Checked like tpu_vm.sh. Not checked: gcloud, a real TPU, and how jax finds the other machines.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh
WORKER=all EXAMPLE=v5litepod-32
source launch/tpu.sh

checked "$@"
planned "$@"
there
send
train --distributed=auto "$@"
