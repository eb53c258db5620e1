# Shared by tpu_vm.sh and tpu_pod.sh, which source it after common.sh. WORKER selects the machines of the TPU.

need TPU my-tpu
need ZONE europe-west4-b
need ACCELERATOR "$EXAMPLE"
need RUNTIME v2-alpha-tpuv5-lite

where=(--zone="$ZONE")
[ -z "${PROJECT:-}" ] || where+=(--project="$PROJECT")
uv='python3 -m uv'
INSTALL=${INSTALL:-"python3 -m pip install --quiet --user uv && $uv venv --quiet --allow-existing --python 3.12 .venv \
&& $uv pip install --quiet --python .venv/bin/python -r requirements.txt 'jax[tpu]<0.13' \
'gcsfs>=2026.1,<2028' 's3fs>=2026.1,<2028'"}

checked() { # checked ARGUMENT ...: exits without a config and a workdir, before anything costs money
  local argument config= workdir=
  for argument; do
    case $argument in
      --config | --config=*) config=1 ;;
      --workdir=*://*) workdir=bucket ;;
      --workdir | --workdir=*) workdir=disk ;;
      --flagfile*) return ;;
    esac
  done
  if [ -z "$config" ] || [ -z "$workdir" ]; then
    echo "error: say what to train, and where to: --config=NAME --workdir=gs://BUCKET/RUN" >&2
    exit 2
  fi
  [ "$workdir" = bucket ] || echo "note: the workdir is lost with the TPU's disk; gs://BUCKET/RUN is not" >&2
}

planned() { # planned ARGUMENT ...: with PLAN, what this training needs on such a TPU; ends here if it does not fit
  local argument config=()
  for argument; do [[ $argument != --config* ]] || config+=("$argument"); done
  [ -z "${PLAN:-}" ] || run "$PYTHON" -m vae_jax.plan --topology="$PLAN" "${config[@]}"
}

tpu() {
  run gcloud compute tpus tpu-vm "$@"
}

create() {
  tpu create "$TPU" "${where[@]}" --accelerator-type="$ACCELERATOR" --version="$RUNTIME" ${SPOT:+--spot}
}

there() { # creates the TPU unless it exists; preempted spot TPUs cannot be restarted, only recreated
  local state=
  [ -n "${DRY_RUN:-}" ] || state=$(tpu describe "$TPU" "${where[@]}" --format='value(state)' 2> /dev/null) || true
  case $state in
    READY) ;;
    '')
      [ -z "${DRY_RUN:-}" ] || echo "# unless it exists:"
      create
      ;;
    PREEMPTED | TERMINATED) tpu delete "$TPU" "${where[@]}" --quiet && create ;;
    STOPPED) tpu start "$TPU" "${where[@]}" ;;
    *)
      echo "error: $TPU is $state; try again later" >&2
      exit 1
      ;;
  esac
}

on_tpu() { # on_tpu COMMAND: in the shell of every machine
  tpu ssh "$TPU" "${where[@]}" --worker="$WORKER" --command="$1"
}

send() { # copies this folder to ~/vae_jax and installs its environment, unless a run is active there
  local archive
  archive=$(mktemp --suffix=.tar.gz)
  run tar --exclude=./.git --exclude=./.venv --exclude=./.launch --exclude=./runs --exclude=./docs \
    --exclude=__pycache__ -czf "$archive" .
  tpu scp "$archive" "$TPU:vae_jax.tar.gz" "${where[@]}" --worker="$WORKER"
  rm -f "$archive"
  on_tpu "mkdir -p vae_jax/.launch && cd vae_jax && if flock --nonblock .launch/lock true; then tar -xzf \
../vae_jax.tar.gz && $INSTALL; fi"
}

train() { # train ARGUMENT ...: starts the training, or attaches to it
  local python=.venv/bin/python
  on_tpu "cd vae_jax && ${BEFORE:+$BEFORE && }$(quoted env JAX_PLATFORMS=tpu,cpu bash launch/attach.sh .launch "$python" \
    launch/supervise.py --restarts="${RESTARTS:-10}" -- "$python" -m vae_jax.main "$@")"
}
