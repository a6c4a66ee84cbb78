#!/usr/bin/env bash
#
# Builds the guest programs with Debian 12's own compiler, so that anyone gets the bytes that are committed in prebuilt/.
# The compiler's packages are only unpacked into a cache folder: nothing is installed, and no other toolchain is touched.
#
#   build.sh [FOLDER]   builds all programs into FOLDER (default: prebuilt/ here, and renews SHA256SUMS)
#   build.sh --check    checks prebuilt/ against SHA256SUMS, rebuilds into a temporary folder and compares byte for byte;
#                       where the compiler can't be had, says so in a line and leaves it at the hashes
#
# GUEST_TOOLCHAIN=FOLDER  where the packages are unpacked (default: ${XDG_CACHE_HOME:-$HOME/.cache}/tally/guest-toolchain)
# GUEST_RUSTC=PROGRAM     builds with this rustc instead, e.g. a rustup one that has the wasm32-unknown-unknown target.
#                         Its output works the same, but other compilers give other bytes.

set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
toolchain="${GUEST_TOOLCHAIN:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tally/guest-toolchain}"
programs=(gaussian-blur wordcount prime-count)

# The versions that made prebuilt/. Others may be as good, but would not give the same bytes.
rust_version="1.63.0+dfsg1-2"
llvm_version="1:14.0.6-12"
packages=(
    "rustc=$rust_version" "libstd-rust-1.63=$rust_version" "libstd-rust-dev-wasm32=$rust_version"
    "lld-14=$llvm_version" "libllvm14=$llvm_version"
    libbsd0 libedit2 libgcc-s1 libicu72 libmd0 libstdc++6 libtinfo6 libxml2 libz3-4 zlib1g
)

fail() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

main() {
    case "${1:-}" in
    -h | --help) sed -n '3,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    --check)
        [[ $# -eq 1 ]] || fail "--check takes no more arguments"
        check
        ;;
    -*) fail "unknown option $1 (see --help)" ;;
    *)
        [[ $# -le 1 ]] || fail "one output folder at most"
        build_into "${1:-}"
        ;;
    esac
}

build_into() {
    local output="${1:-$here/prebuilt}"
    mkdir -p "$output"
    output="$(cd "$output" && pwd)"
    have_compiler || fail "no compiler: this needs Debian 12's packages (apt-get, dpkg), or GUEST_RUSTC=rustc"
    build_programs "$output"
    if [[ "$output" == "$here/prebuilt" ]]; then
        (cd "$here" && sha256sum prebuilt/*.wasm >SHA256SUMS)
    fi
    (cd "$output" && wc -c "${programs[@]/%/.wasm}")
}

check() {
    (cd "$here" && sha256sum --check --strict --quiet SHA256SUMS) || fail "prebuilt/ differs from SHA256SUMS"
    local program
    for program in "${programs[@]}"; do
        grep -q "  prebuilt/$program\.wasm\$" "$here/SHA256SUMS" || fail "SHA256SUMS misses prebuilt/$program.wasm"
    done
    echo "prebuilt/ matches SHA256SUMS"
    if [[ -n "${GUEST_RUSTC:-}" ]]; then
        fail "--check compares with Debian's compiler: unset GUEST_RUSTC"
    fi
    if ! have_compiler; then
        echo "note: rebuild skipped, Debian's rustc $rust_version can't be had here; only the hashes were checked"
        return
    fi
    # Not local: the trap runs after this function's end.
    rebuilt="$(mktemp -d)"
    trap 'rm -rf "$rebuilt"' EXIT
    build_programs "$rebuilt"
    for program in "${programs[@]}"; do
        cmp "$rebuilt/$program.wasm" "$here/prebuilt/$program.wasm" || fail "prebuilt/$program.wasm is not what its source builds to"
    done
    echo "rebuilt ${#programs[@]} programs: all byte for byte as in prebuilt/"
}

build_programs() {
    local program
    for program in "${programs[@]}"; do
        build_program "$program" "$1/$program.wasm"
    done
}

# Relative source paths, one codegen unit and a fixed metadata string: nothing of this machine gets into the module.
build_program() {
    local program="$1" output="$2"
    cd "$here/$program"
    run_rustc --edition 2021 --crate-type cdylib --crate-name "${program//-/_}" \
        --target wasm32-unknown-unknown --remap-path-prefix "$here=/programs" \
        -C opt-level=3 -C panic=abort -C codegen-units=1 -C lto=fat -C strip=symbols -C metadata=tally-guest \
        -C target-feature=+simd128,+bulk-memory -C no-vectorize-loops -C no-vectorize-slp \
        -C link-arg=--stack-first -C link-arg=-zstack-size=16384 \
        -o "$output" src/lib.rs
    chmod 644 "$output"
    cd "$here"
}

run_rustc() {
    if [[ -n "${GUEST_RUSTC:-}" ]]; then
        "$GUEST_RUSTC" "$@"
        return
    fi
    local library="$toolchain/usr/lib/x86_64-linux-gnu"
    LD_LIBRARY_PATH="$library:$toolchain/usr/lib/llvm-14/lib:$toolchain/lib/x86_64-linux-gnu" \
        "$toolchain/usr/bin/rustc" --sysroot "$toolchain/usr" \
        -C linker="$toolchain/usr/lib/llvm-14/bin/lld" -C linker-flavor=wasm-ld "$@"
}

have_compiler() {
    [[ -n "${GUEST_RUSTC:-}" ]] || [[ -f "$toolchain/complete-$rust_version" ]] || unpack_compiler
}

# Unpacks beside the final place and renames at the end, so that an interrupted download leaves nothing half done.
unpack_compiler() {
    [[ "$(uname -m)" == x86_64 ]] || return 1
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    local partial="$toolchain.partial.$$"
    rm -rf "$partial"
    mkdir -p "$partial/packages"
    if ! download_packages "$partial/packages"; then
        rm -rf "$partial"
        return 1
    fi
    local package
    for package in "$partial"/packages/*.deb; do
        dpkg -x "$package" "$partial" || return 1
    done
    rm -rf "$partial/packages" "$toolchain"
    touch "$partial/complete-$rust_version"
    mv "$partial" "$toolchain"
}

# Fetches without installing. Only root may renew the package lists; for others they must be there already.
download_packages() {
    if ! apt-cache show "rustc=$rust_version" >/dev/null 2>&1 && [[ "$(id -u)" -eq 0 ]]; then
        echo "fetching the package lists" >&2
        apt-get update -qq >&2 || return 1
    fi
    echo "fetching the compiler (about 110 MB) into $toolchain" >&2
    (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}" >&2)
}

main "$@"
