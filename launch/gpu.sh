#!/usr/bin/env bash
# Trains on one host with one or more GPUs; one process drives them all.
#
#   [GPUS=0,1] [RESTARTS=10] [DRY_RUN=1] launch/gpu.sh --config=configs/NAME.py --workdir=DIR [--config.KEY=VALUE ...]
#
# GPUS: the GPUs to use, all by default. Run the same command again to resume. After a crash it restarts by itself
# (launch/supervise.py); Ctrl-C and SIGTERM save and exit. Paths are relative to the repository's folder, whose .venv,
# or PYTHON, needs the jax of the platform, such as 'jax[cuda13]<0.13'. If jax finds no NVIDIA GPU, it fails rather than
# train on the CPU; for AMD set JAX_PLATFORMS=rocm,cpu.
#
# Checked by tests/launch/test_launch.py: the dry run, and a real run with JAX_PLATFORMS=cpu. Not checked: a real GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh

settings=(JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}")
[ -z "${GPUS:-}" ] || settings+=(CUDA_VISIBLE_DEVICES="$GPUS")
become env "${settings[@]}" "$PYTHON" launch/supervise.py --restarts="${RESTARTS:-10}" -- \
  "$PYTHON" -m vae_jax.main "$@"
