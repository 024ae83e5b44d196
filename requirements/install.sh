#!/usr/bin/env bash
# Create .venv with everything Tandem runs, trains and tests with, at the exact versions of the lock.
# Run it as `make setup`. It does nothing (and takes no time) when .venv already matches the lock.
#
#   PYTHON=/path/to/python3.11   the interpreter to build .venv from
#   TANDEM_LOCK=cpu|gpu          the lock to install; default: gpu where `nvidia-smi -L` finds one, else cpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source requirements/common.sh

VENV=.venv
STAMP=$VENV/.tandem-lock

choose_lock() {
    case ${TANDEM_LOCK:-} in
        cpu | gpu) echo "$TANDEM_LOCK" ;;
        "") if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then echo gpu; else echo cpu; fi ;;
        *) die "TANDEM_LOCK is '$TANDEM_LOCK'; it must be cpu or gpu." ;;
    esac
}

# What the contents of .venv follow from; a moved checkout counts, because scripts in .venv hold its path.
fingerprint() { { echo "$PWD"; cat "$1" pyproject.toml requirements/install.sh requirements/common.sh; } | sha256sum | cut -d ' ' -f 1; }

create_venv() {
    local python
    if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null &&
        [[ $(sed -n 's/^VIRTUAL_ENV=//p' "$VENV/bin/activate" | tr -d "\"'" | head -n 1) == "$PWD/$VENV" ]]; then
        return
    fi
    # --clear follows a link and would empty an environment that another checkout works with.
    if [[ -L $VENV ]]; then
        die "$VENV is a link to $(readlink -f "$VENV"), which is not this checkout's." "Remove the link: rm $VENV"
    fi
    python=$(find_python)
    say "creating $VENV with $python"
    "$python" -m venv --clear "$VENV" || {
        rm -rf "$VENV"
        die "$python cannot create a virtual environment." "On Debian and Ubuntu: apt-get install python3.11-venv"
    }
}

install_lock() {
    local kind=$1 lock=$2 backend=()
    local uv
    uv=$(grep '^uv==' "$lock") || die "$lock pins no uv." "Restore it: git checkout $lock"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$uv" ||
        die "pip could not install $uv." "Check that this machine reaches a package registry: $VENV/bin/python -m pip download --no-deps uv"
    configure_uv "$VENV/bin/python"
    if [[ $kind == gpu ]]; then
        unset UV_FIND_LINKS # links are there for torch's CPU build, which would win over the one for CUDA
    elif [[ -z ${UV_FIND_LINKS:-} ]]; then
        backend=(--torch-backend cpu) # no link to torch's CPU build was given: uv knows where it is published
    fi
    say "installing $(grep -c '==' "$lock") packages from $lock (some minutes the first time, seconds from the cache)"
    # torch is installed anew because its CPU and CUDA builds have one version, and .venv may hold the other one.
    # Bytecode is written once, here: where PYTHONDONTWRITEBYTECODE is set (containers, CI) every process would compile
    # feast, transformers and Ray for itself, over ten seconds each, and a service has a dozen of them.
    local sync=("$VENV/bin/uv" pip sync --python "$VENV/bin/python" --compile-bytecode --reinstall-package torch)
    if "${sync[@]}" "${backend[@]}" "$lock"; then return; fi
    if [[ ${#backend[@]} -gt 0 ]]; then
        say "torch's CPU build cannot be had; taking the registry's build, which brings CUDA (gigabytes)"
        if "${sync[@]}" "$lock" && "$VENV/bin/uv" pip install --python "$VENV/bin/python" --constraint "$lock" "$(grep '^torch==' "$lock")"; then
            return
        fi
    elif [[ $kind == cpu ]]; then
        say "uv could not install $lock (above); trying again with pip, which is slower"
        if "$VENV/bin/python" -m pip install --no-deps --disable-pip-version-check -r "$lock"; then return; fi
    fi
    die "$lock could not be installed; the cause is above." "A failed download can be repeated: make setup"
}

check_torch() {
    local kind=$1
    if [[ $kind == gpu ]]; then
        "$VENV/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
            die "torch was installed and finds no usable GPU (the lock's CUDA is 13: it needs driver 580 or newer)." \
                "Update the driver, or install without the GPU: make setup TANDEM_LOCK=cpu"
    else
        "$VENV/bin/python" -c 'import torch' ||
            die "torch was installed and cannot be imported: probably its CUDA build came instead of the CPU build." \
                "Point PIP_FIND_LINKS at a folder or page with torch's +cpu wheel, remove $VENV, and run make setup again"
    fi
}

main() {
    [[ $(uname -s) == Linux ]] || die "Tandem's locks are for Linux; this is $(uname -s)." \
        "Run it in a container: docker run --rm -it -v \"\$PWD\":/tandem -w /tandem python:3.11-bookworm make test"
    local kind lock wanted started=$SECONDS
    kind=$(choose_lock)
    lock=requirements/$kind.txt
    [[ -f $lock ]] || die "$lock is missing." "Restore it: git checkout $lock"
    wanted=$(fingerprint "$lock")
    if [[ -x $VENV/bin/python && $(cat "$STAMP" 2>/dev/null) == "$wanted" ]]; then return; fi
    create_venv
    rm -f "$STAMP"
    install_lock "$kind" "$lock"
    check_torch "$kind"
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --offline --editable . ||
        die "the project itself could not be installed; the cause is above."
    echo "$wanted" >"$STAMP"
    say "ready: $VENV from $lock, in $((SECONDS - started)) s"
}

main
