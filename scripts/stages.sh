# Sourced by scripts/check and scripts/test: runs named stages one after the other, all of them whatever fails, and says at the
# end which did. A stage NAME is a function stage_NAME; its description stands in the table `stages`.
#
# The stages themselves run with `set -euo pipefail`; the script that sources this file must not set -e, because bash ignores
# it in a function whose status is looked at.

say() { printf '%s\n' "$*"; }

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

# Installs Debian packages: `want COMMAND PACKAGE` notes one, `install_wanted` installs those whose command is missing.
wanted=()
want() { command -v "$1" >/dev/null || wanted+=("$2"); }

install_wanted() {
    [ ${#wanted[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null || fail "missing: ${wanted[*]}" 'install them; only Debian is known to this script'
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    say "installing ${wanted[*]}"
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
    wanted=()
}

need_rust() {
    command -v cargo >/dev/null || fail 'cargo is missing' 'install Rust by rustup, the version of rust-version in Cargo.toml or newer'
    want cc build-essential
    install_wanted
}

# A virtual environment in target/venv/NAME with what REQUIREMENTS pins; made anew only when that changes.
venv() {
    local folder="$root/target/venv/$1" requirements="$2"
    shift 2
    if ! cmp -s "$requirements" "$folder/requirements.txt"; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
        install_wanted
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" --requirement "$requirements"
        cp "$requirements" "$folder/requirements.txt"
    fi
}

need_nextest() {
    cargo nextest --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-nextest
}

# Runs the stages named on the command line, or all of them in the order of the table.
run_stages() {
    local names=() name passed=0 failed=() seconds
    for name in "${stages[@]%% *}"; do
        [ $# -eq 0 ] && names+=("$name")
    done
    for name in "$@"; do
        [[ " ${stages[*]%% *} " == *" $name "* ]] || fail "there is no stage '$name'" "stages: ${stages[*]%% *}"
        names+=("$name")
    done
    for name in "${names[@]}"; do
        printf '\n== %s\n' "$(describe "$name")"
        seconds=$SECONDS
        # Not in a condition: bash would ignore set -e in there.
        ( set -euo pipefail; "stage_${name//-/_}" )
        if [ $? -eq 0 ]; then
            passed=$((passed + 1))
            say "== $name passed in $((SECONDS - seconds)) s"
        else
            failed+=("$name")
            say "== $name FAILED in $((SECONDS - seconds)) s"
        fi
    done
    printf '\n'
    [ ${#failed[@]} -eq 0 ] || say "failed: ${failed[*]}"
    say "stages: $passed passed, ${#failed[@]} failed"
    [ ${#failed[@]} -eq 0 ]
}

describe() {
    local row
    for row in "${stages[@]}"; do
        [ "${row%% *}" = "$1" ] && say "$row"
    done
}
