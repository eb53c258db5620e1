# Shared by the scripts here, which source it from the repository's folder.

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

quoted() { # prints the words as one line that a shell reads back as the same words
  local word line=
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

run() { # runs the command; with DRY_RUN=1, prints it instead
  if [ -n "${DRY_RUN:-}" ]; then quoted "$@"; else "$@"; fi
}

become() { # the same for a script's last command, so that signals reach it
  if [ -n "${DRY_RUN:-}" ]; then quoted "$@"; else exec "$@"; fi
}

need() { # need NAME EXAMPLE: exits unless the environment sets NAME
  if [ -z "${!1:-}" ]; then
    echo "error: set $1, for example $1=$2" >&2
    exit 2
  fi
}
