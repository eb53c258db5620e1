#!/usr/bin/env bash
# Trains on one host with one or more GPUs; one process drives them all.
#
#   [GPUS=0,1] [RESTARTS=10] [DRY_RUN=1] launch/gpu.sh --config=configs/NAME.py --workdir=DIR [--config.KEY=VALUE ...]
#
# GPUS: those to use, all by default. The same command again resumes. After a crash it starts again by itself
# (launch/supervise.py); Ctrl-C and SIGTERM save and end. Paths are relative to the repository's folder, whose .venv,
# or PYTHON, has the jax of the platform, such as 'jax[cuda13]<0.13'. Where jax finds no NVIDIA GPU that is an error,
# never a training on the CPU; for AMD set JAX_PLATFORMS=rocm,cpu.
#
# Checked by tests/launch/test_launch.py: the dry run, and a real run with JAX_PLATFORMS=cpu. Not checked: any GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh

settings=(JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}")
[ -z "${GPUS:-}" ] || settings+=(CUDA_VISIBLE_DEVICES="$GPUS")
become env "${settings[@]}" "$PYTHON" launch/supervise.py --restarts="${RESTARTS:-10}" -- \
  "$PYTHON" -m vae_jax.main "$@"
