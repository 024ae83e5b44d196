# Shared by install.sh and compile.sh: messages, a Python 3.11, and uv told what pip was told. Sourced, never run.

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: error: %s\n' "$1" >&2; shift; for remedy in "$@"; do printf '       %s\n' "$remedy" >&2; done; exit 1; }

# Print the path of a Python 3.11; $PYTHON, then python3.11, then whatever python3 or python is.
find_python() {
    local candidate version found=""
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        # A version manager's shim can be on PATH and still refuse to run, so ask it rather than look for it.
        version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        case $version in 3.11.*) "$candidate" -c 'import sys; print(sys.executable)'; return ;; esac
        found="${found:+$found, }$candidate is $version"
    done
    die "Tandem needs Python 3.11; ${found:-there is no working ${PYTHON:-python3}} on PATH." \
        "Install it (Debian 12: apt-get install python3.11 python3.11-venv; macOS: brew install python@3.11;" \
        "anywhere: pyenv install 3.11 && pyenv local 3.11) or name one: make setup PYTHON=/path/to/python3.11"
}

# uv reads neither pip's environment nor pip.conf: hand over the index, the links and the certificate the user gave pip.
# $1: a Python that has pip.
configure_uv() {
    local settings links index certificate
    settings=$("$1" -m pip config list 2>/dev/null || true)
    setting() { sed -n "s/^\(:env:\|install\|global\|user\|site\)\.$1='\(.*\)'\$/\2/p" <<<"$settings" | head -n 1; }
    links=$(setting find-links)
    index=$(setting index-url)
    certificate=$(setting cert)
    if [[ -z ${UV_FIND_LINKS:-} && -n $links ]]; then
        links=${links//\\n/ }
        # shellcheck disable=SC2086  # pip separates with blanks, uv with commas
        UV_FIND_LINKS=$(printf '%s,' $links)
        export UV_FIND_LINKS=${UV_FIND_LINKS%,}
    fi
    if [[ -z ${UV_DEFAULT_INDEX:-} && -n $index ]]; then export UV_DEFAULT_INDEX=$index; fi
    if [[ -z ${SSL_CERT_FILE:-} && -n $certificate ]]; then export SSL_CERT_FILE=$certificate; fi
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} UV_NO_CONFIG=1
}
