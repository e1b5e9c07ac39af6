#!/bin/sh
# Makes .venv with this package (editable) and everything that demo, tests and lint need.
# PYTHON names the interpreter; without it the first of 3.10 to 3.13 that is found.
# `make_venv.sh check` makes nothing, and says whether that Python can.
# uv installs in a quarter of pip's time; pip follows where uv cannot (a mirror set in pip.conf).
set -eu

fail() {
    echo "error: $*" >&2
    exit 1
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "imgsearch_es needs Python 3.10 to 3.13, and PYTHON=$PYTHON is" \
            "$("$PYTHON" --version 2>/dev/null || echo "no Python")."
        return
    fi
    for PYTHON in python3 python3.13 python3.12 python3.11 python3.10 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[0-3].*/bin/python; do
        if supported "$PYTHON"; then return; fi
    done
    fail "imgsearch_es needs Python 3.10 to 3.13 and there is none here (python3 is" \
        "$(python3 --version 2>/dev/null || echo missing)): install one, or name it," \
        "for example \`make demo PYTHON=/path/to/python3.12\`."
}

install() {
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_RETRIES="${PIP_RETRIES:-2}" UV_NO_PROGRESS=1
    .venv/bin/python -m pip install --quiet uv &&
        .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -e '.[dev]' ||
        .venv/bin/python -m pip install --quiet -e '.[dev]'
}

choose_python
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$PYTHON cannot make virtual environments: install its venv module," \
        "for example \`apt-get install python3-venv\`."
[ "${1:-}" != check ] || exit 0
log=.venv/install.log
echo "installing into .venv with $("$PYTHON" --version) (once, a minute or two) ..."
rm -rf .venv
"$PYTHON" -m venv .venv >/dev/null || fail "$PYTHON could not make the virtual environment .venv."
if ! install >"$log" 2>&1; then
    network='resolve|resolution|connect|network|timed out|unreachable|dns|Max retries|Failed to fetch'
    if grep -Eiq "$network" "$log"; then
        fail "could not install the packages: no network? What pip said is in $log."
    fi
    fail "could not install the packages: $(grep -i error "$log" | tail -n 1) (all of it: $log)"
fi
touch .venv/.installed
