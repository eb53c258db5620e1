# What the scripts here share; they source it from the repository's folder.

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

quoted() { # the words as one line that a shell reads back as the same words
  local word line=
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

run() { # with DRY_RUN=1 the command is printed in place of being run
  if [ -n "${DRY_RUN:-}" ]; then quoted "$@"; else "$@"; fi
}

become() { # the same for the last command of a script: signals then reach it
  if [ -n "${DRY_RUN:-}" ]; then quoted "$@"; else exec "$@"; fi
}

need() { # need NAME EXAMPLE: the environment has to say it
  if [ -z "${!1:-}" ]; then
    echo "error: set $1, for example $1=$2" >&2
    exit 2
  fi
}
