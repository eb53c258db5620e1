#!/usr/bin/env bash
# What each pod of launch/jobset.yaml runs: its process of the training, restarted after a crash.
#
#   COORDINATOR=HOST:PORT PROCESSES=N JOB_COMPLETION_INDEX=I [RESTARTS=3] [DRY_RUN=1] launch/jobset.sh \
#     --config=configs/NAME.py --workdir=DIR [--config.KEY=VALUE ...]
#
# Kubernetes sets JOB_COMPLETION_INDEX in the pods of an indexed Job; jobset.yaml sets the rest.
#
# Checked by tests/launch/test_launch.py: the dry run with the environment of jobset.yaml. Not checked: Kubernetes.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh
need COORDINATOR vae-jax-worker-0-0.vae-jax:8476
need PROCESSES 2
need JOB_COMPLETION_INDEX 0

become "$PYTHON" launch/supervise.py --restarts="${RESTARTS:-3}" -- "$PYTHON" -m vae_jax.main \
  --coordinator="$COORDINATOR" --num_processes="$PROCESSES" --process_id="$JOB_COMPLETION_INDEX" "$@"
