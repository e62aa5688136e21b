#!/bin/bash
# install-dependencies.sh [--help] [test] [clang] [valgrind] [demo] - what building needs, and what the named uses need besides.
# Found on the machine already: nothing is done. Missing: installed with apt-get as root or through sudo without a
# password; where neither is possible, the line to run is printed and the exit code is 1.
set -eu

# use     package             how it is recognised
table='
build     build-essential     command cc
build     build-essential     command c++
build     build-essential     command make
build     cmake               command cmake
build     pkg-config          command pkg-config
build     zlib1g-dev          library zlib
build     libjpeg-dev         library libjpeg
build     libpng-dev          library libpng
build     libutf8proc-dev     library libutf8proc
build     libjansson-dev      library jansson
build     libyaml-dev         library yaml-0.1
build     libstemmer-dev      header  libstemmer.h
optional  wordnet-base        file    /usr/share/wordnet/index.noun
optional  libopenblas-dev     library openblas
build     libwebp-dev         library libwebp
build     libarchive-dev      library libarchive
build     libavformat-dev     library libavformat
build     libavcodec-dev      library libavcodec
build     libavutil-dev       library libavutil
build     libswscale-dev      library libswscale
optional  libdnnl-dev         header  dnnl.h
optional  libopenmpi-dev      command mpicc
optional  openmpi-bin         command mpirun
test      libcunit1-dev       library cunit
clang     clang               command clang
clang     libomp-dev          openmp  clang
test      clang-format        command clang-format
valgrind  valgrind            command valgrind
optional  time                command time
optional  libmicrohttpd-dev   library libmicrohttpd
test      curl                command curl
optional  help2man            command help2man
'

uses=" build optional "
for use; do
    case $use in
    --help)
        sed -n '2,4s/^# //p' "$0"
        exit 0
        ;;
    test | clang | valgrind | demo) uses+="$use " ;;
    *)
        echo "install-dependencies.sh: unknown use \"$use\" (see --help)" >&2
        exit 2
        ;;
    esac
done

present() { # present HOW NAME
    case $1 in
    command) type -P "$2" >/dev/null ;;
    library) pkg-config --exists "$2" 2>/dev/null ;;
    openmp) echo '#include <omp.h>' | "$2" -fopenmp -E -x c - >/dev/null 2>&1 ;;
    file) [ -e "$2" ] ;;
    header) echo "#include <$2>" | cc -E -x c - >/dev/null 2>&1 ;;
    esac
}

missing() { # the packages of one use that are wanted and not there
    local use package how name
    while read -r use package how name; do
        if [ "$use" = "$1" ] && ! present "$how" "$name"; then echo "$package"; fi
    done <<<"$table" | sort -u
}

needed=() optional=()
for use in $uses; do
    if [ "$use" = optional ]; then mapfile -t optional < <(missing optional); else mapfile -t -O ${#needed[@]} needed < <(missing "$use"); fi
done
[ $((${#needed[@]} + ${#optional[@]})) -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
if ! type -P apt-get >/dev/null || ! ${as_root[0]+"${as_root[@]}"} true 2>/dev/null; then
    echo "Some packages are missing. On Debian or Ubuntu, run:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y ${needed[*]} ${optional[*]}" >&2
    [ ${#needed[@]} = 0 ] # without the optional ones the build goes on
    exit
fi

apt() {
    ${as_root[0]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >/dev/null
}
echo "Installing ${needed[*]} ${optional[*]}"
apt update || echo "install-dependencies.sh: apt-get update failed; going on with the lists that are there" >&2
if [ ${#needed[@]} -gt 0 ]; then apt install -y --no-install-recommends "${needed[@]}"; fi
for package in "${optional[@]}"; do
    apt install -y --no-install-recommends "$package" || echo "install-dependencies.sh: $package cannot be had here; it is optional" >&2
done
