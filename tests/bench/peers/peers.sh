#!/usr/bin/env bash
#
# Runs the benchmarks of run.py in a Python environment of their own, which is made at the first use.
#
#   peers.sh NAME [--json] [...]     see run.py
#   peers.sh make-image FROM TO      see make_image.py
#
# The environment and all its packages lie in ${XDG_CACHE_HOME:-$HOME/.cache}/tally/bench-venv; deleting the folder undoes it.

set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tally/bench-venv"
# Nothing here runs longer on a slow machine, unless it hangs.
readonly seconds_max=900

main() {
    prepare
    if [[ "${1:-}" == make-image ]]; then
        shift
        exec "$venv/bin/python" "$here/make_image.py" "$@"
    fi
    # With a warning first, so that it can stop what it started.
    exec timeout --kill-after=20 "$seconds_max" "$venv/bin/python" "$here/run.py" "$@"
}

prepare() {
    # The list of the packages that are installed, to see when it has changed.
    local installed="$venv/requirements.txt"
    cmp -s "$here/requirements.txt" "$installed" && return
    {
        echo "preparing $venv (once, about 300 MB)"
        rm -rf "$venv"
        if ! python3 -m venv "$venv"; then
            rm -rf "$venv"
            echo "peers.sh: python3 with venv is missing: apt-get install python3-venv"
            exit 2
        fi
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
        cp "$here/requirements.txt" "$installed"
    } >&2
}

main "$@"
