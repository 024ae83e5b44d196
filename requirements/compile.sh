#!/usr/bin/env bash
# Write requirements/cpu.txt and requirements/gpu.txt from pyproject.toml. Run it as `make lock`.
# Versions already in a lock are kept wherever pyproject.toml still allows them; `make lock UPGRADE=1` takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source requirements/common.sh

[[ -x .venv/bin/uv ]] || die "there is no .venv to compile with." "Run: make setup"
configure_uv .venv/bin/python

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

compile() {
    local kind=$1 lock=requirements/$1.txt resolved=$scratch/$1.txt
    if [[ -f $lock && -z ${UPGRADE:-} ]]; then cp "$lock" "$resolved"; fi
    .venv/bin/uv pip compile pyproject.toml --extra "$kind" --extra train --extra graph --extra dev --quiet \
        --override "requirements/$kind-overrides.txt" --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-annotate --no-header --output-file "$resolved" >/dev/null
    {
        echo "# The $kind lock: what runs, trains and tests Tandem on Linux x86_64 with Python 3.11. Written by make lock."
        echo "# Install it with --no-deps: the requirements in $kind-overrides.txt are left out on purpose."
        # The tag of a local build is dropped so that the lock names a version any registry has.
        sed 's/^\(torch==[^+]*\)+.*/\1/' "$resolved"
    } >"$scratch/lock"
    cp "$scratch/lock" "$lock"
    say "$lock: $(grep -c '==' "$lock") packages"
}

compile cpu
# Links lead to torch's CPU build, which would be taken for the newest torch.
unset UV_FIND_LINKS
compile gpu
