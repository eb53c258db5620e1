#!/usr/bin/env bash
# Trains many configs, one after another or one on each GPU, and resumes those that are not finished.
#
#   [GPUS="0 1 2"] [RESTARTS=3] [DRY_RUN=1] launch/sweep.sh RUNS LIST [--config.KEY=VALUE ...]
#
# LIST is a file with a run per line, its name and its flags: seed_1 --config=configs/vae_mnist.py --config.seed=1
# Quotes keep words together, lines that start with # are skipped; RUNS/NAME is the workdir. Further arguments go to
# every run. Run the same command again to do the rest: RUNS/NAME.finished keeps the flags of a run that succeeded,
# which is run again only with other flags. A run that fails is reported and does not stop the others. With GPUS, run i
# is on the GPU at position i modulo their number. Ctrl-C and SIGTERM save all active runs and exit.
#
# Checked by tests/launch/test_launch.py: the dry run, and sweeps with stand-ins for training. Not checked: a real GPU.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: launch/sweep.sh RUNS LIST [--config.KEY=VALUE ...]" >&2; exit 2; }
[ -f "$2" ] || { echo "error: there is no list $2; expected a file with a run per line" >&2; exit 2; }
list=$(realpath -- "$2")
cd "$(dirname "$0")/.."
source launch/common.sh
runs=$1
shift 2
read -r -a gpus <<< "${GPUS:-}"
slots=${#gpus[@]}
[ "$slots" -gt 0 ] || slots=1
mapfile -t lines < <(grep -vE '^[[:space:]]*(#|$)' "$list")
[ ${#lines[@]} -gt 0 ] || { echo "error: $list holds no run; expected lines such as seed_1 --config=vae_mnist" >&2; exit 2; }

one() { # one LINE GPU [ARGUMENT ...]: trains one run in the background as `running`, and waits for it
  local words name train start gpu=$2
  mapfile -t words < <(xargs -n 1 printf '%s\n' <<< "$1") # splits like a shell, but runs nothing
  name=${words[0]}
  train=("$PYTHON" -m vae_jax.main --workdir="$runs/$name" "${words[@]:1}" "${@:3}")
  start=("$PYTHON" launch/supervise.py --restarts="${RESTARTS:-3}" -- "${train[@]}")
  [ -z "$gpu" ] || start=(env JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}" CUDA_VISIBLE_DEVICES="$gpu" "${start[@]}")
  if [ -n "${DRY_RUN:-}" ]; then
    quoted "${start[@]}"
  elif [ "$(cat "$runs/$name.finished" 2> /dev/null)" = "$(quoted "${train[@]}")" ]; then
    echo "sweep: $name is finished"
  else
    echo "sweep: $name${gpu:+ on GPU $gpu}, output in $runs/$name.log"
    mkdir -p "$(dirname "$runs/$name")"
    "${start[@]}" >> "$runs/$name.log" 2>&1 &
    running=$!
    wait "$running" && quoted "${train[@]}" > "$runs/$name.finished"
  fi
}

slot() { # slot NUMBER [ARGUMENT ...]: every `slots`-th run, one after another
  local i number=$1 code=0 stopped= running=
  trap 'stopped=1; [ -z "$running" ] || kill -TERM "$running"' TERM
  for ((i = number; i < ${#lines[@]}; i += slots)); do
    [ -z "$stopped" ] || break
    one "${lines[i]}" "${gpus[number]:-}" "${@:2}" && continue
    code=1
    if [ -n "$stopped" ]; then
      wait || true # until it has saved
      break
    fi
    echo "sweep: failed: ${lines[i]}" >&2
  done
  exit "$code"
}

pids=()
for ((number = 0; number < slots; number++)); do
  slot "$number" "$@" &
  pids+=($!)
done
stopped=
trap 'stopped=1; kill -TERM "${pids[@]}" 2> /dev/null' INT TERM
code=0
for pid in "${pids[@]}"; do
  wait "$pid" || code=1
done
if [ -n "$stopped" ]; then
  wait || true
  code=143
fi
exit "$code"
