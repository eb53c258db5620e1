#!/usr/bin/env bash
# Starts a command that outlives the terminal, or attaches to it if it is already running; shows its output to the end
# and exits with its code.
#
#   launch/attach.sh FOLDER COMMAND ...
#
# FOLDER keeps output.log, pid, the command, its exit code, and a lock that is held while it runs. Ctrl-C leaves the
# command running; kill $(cat FOLDER/pid) stops it. Used on machines that are reached by ssh.
#
# Checked by tests/launch/test_launch_tpu.py with real processes.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: launch/attach.sh FOLDER COMMAND ..." >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder"

exec 9>> "$folder/lock"
if flock --nonblock 9; then
  rm -f "$folder/code"
  printf '%q ' "$@" > "$folder/command"
  : > "$folder/output.log"
  # the command inherits the lock with descriptor 9, which this shell closes
  setsid bash -c '"$@" & echo $! > "$0/pid"; wait $!; echo $? > "$0/code"' "$folder" "$@" \
    >> "$folder/output.log" 2>&1 < /dev/null &
elif [ "$(printf '%q ' "$@")" != "$(cat "$folder/command")" ]; then
  echo "error: another command is running here: $(cat "$folder/command"). Stop it with: kill $(cat "$folder/pid")" >&2
  exit 1
fi
exec 9>&-

flock "$folder/lock" true &
tail --lines=+1 --follow --pid=$! "$folder/output.log"
exit "$(cat "$folder/code" || echo 1)"
