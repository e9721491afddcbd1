# Sourced by the other scripts: installs what a fresh machine lacks, and says so.

# require COMMAND PACKAGE: a command, from a Debian package.
require() {
    local command=$1 package=$2 as_root=()
    # What only root uses may be beyond the path of others.
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        echo "$command is missing; install it (on Debian it is in the package $package)" >&2
        return 1
    fi
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    echo "installing the Debian package $package, for $command" >&2
    # A package list that is too old to be used shows only when installing.
    "${as_root[@]}" apt-get install -y -q "$package" >&2 ||
        { "${as_root[@]}" apt-get update -q >&2 && "${as_root[@]}" apt-get install -y -q "$package" >&2; }
}

# require_unpacked COMMAND PACKAGE DIR: a command out of a Debian package that is not installed, because it would start
# a server. Only the command is taken, into DIR, which others find it in from then on.
require_unpacked() {
    local command=$1 package=$2 dir=$3 as_root=() unpacked
    export PATH=$PATH:$dir
    command -v "$command" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        echo "$command is missing; put it into the path (on Debian it is in the package $package)" >&2
        return 1
    fi
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    echo "unpacking $command, of the Debian package $package, into $dir" >&2
    unpacked=$(mktemp -d)
    (
        cd "$unpacked"
        apt-get download -q "$package" || { "${as_root[@]}" apt-get update -q && apt-get download -q "$package"; }
        dpkg-deb --extract ./*.deb .
        install -D -t "$dir" "usr/bin/$command"
    ) >&2
    rm -rf "$unpacked"
    command -v "$command" >/dev/null
}

# require_cargo COMMAND VERSION [OPTIONS...]: a cargo subcommand, built from its crate.
require_cargo() {
    local command=$1 version=$2
    shift 2
    command -v "$command" >/dev/null && return
    echo "installing $command $version with cargo install; this takes some minutes, once" >&2
    cargo install --locked "$command" --version "$version" "$@" >&2
}

# require_rust: cargo itself, which the user should choose how to install.
require_rust() {
    if ! command -v cargo >/dev/null && [[ -r ${CARGO_HOME:-$HOME/.cargo}/env ]]; then
        # shellcheck disable=SC1091
        source "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    # Where `cargo install` puts what it builds.
    export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null && return
    echo "cargo is missing; Rust 1.95 or newer comes from https://rustup.rs:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    return 1
}
