#!/bin/bash
# check_install.sh BUILD SOURCE CC - installs into an empty folder and uses what lies there as a stranger would: the example
# program through pkg-config and the CMake package (shared and static), with the source as a part of another project
# (add_subdirectory, FetchContent), and the installed program, which starts without FFmpeg and reads a video with it.
set -eu
build=${1:?} source=${2:?} cc=${3:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/somewhere
cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$prefix" # nothing in it may hold the prefix

cd "$work"
pc=$(find "$prefix" -name uniperceiver.pc)
lib=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
fail() { echo "FAILED: $*"; exit 1; }

"$prefix/bin/uniperceiver" init --preset tiny --seed 1 --out tiny.safetensors || fail "the installed program"
version=$("$prefix/bin/uniperceiver" --version)
test "$version" = "uniperceiver $(pkg-config --modversion uniperceiver)" || fail "uniperceiver.pc tells another version than $version"

read -ra flags <<<"$(pkg-config --cflags --libs uniperceiver)"
"$cc" -std=c11 -Wall -Wextra -Werror "$source/example/classify.c" "${flags[@]}" -o shared

# --cflags needs no package of a dependency: none can be found here.
(
    PKG_CONFIG_LIBDIR=$(dirname "$pc") PKG_CONFIG_PATH='' pkg-config --cflags --libs --static uniperceiver >/dev/null
) || fail "pkg-config needs packages of dependencies"

# The static library with what uniperceiver.pc says it needs; those libraries themselves are shared ones here.
read -ra more <<<"$(pkg-config --static --cflags --libs uniperceiver)"
"$cc" -std=c11 "$source/example/classify.c" "${more[@]/-luniperceiver/$lib/libuniperceiver.a}" -o static

mkdir project
cat >project/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(example LANGUAGES C)
find_package(uniperceiver 0.1 REQUIRED COMPONENTS static)
add_executable(packaged ${SOURCE})
target_link_libraries(packaged PRIVATE uniperceiver::uniperceiver)
add_executable(packaged_static ${SOURCE})
target_link_libraries(packaged_static PRIVATE uniperceiver::static)
END
cmake -S project -B project/build -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" \
    -DSOURCE="$source/example/classify.c" >log 2>&1 || { cat log; fail "the CMake package: configure"; }
cmake --build project/build >log 2>&1 || { cat log; fail "the CMake package: build"; }

# The source inside another project: the library alone, no test, no install rule.
mkdir inside fetched
cat >inside/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(example LANGUAGES C)
add_subdirectory(${UP} uniperceiver EXCLUDE_FROM_ALL)
add_executable(inside ${UP}/example/classify.c)
target_link_libraries(inside PRIVATE uniperceiver::uniperceiver)
END
cat >fetched/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(example LANGUAGES C)
include(FetchContent)
FetchContent_Declare(uniperceiver SOURCE_DIR ${UP})
FetchContent_MakeAvailable(uniperceiver)
if(TARGET test_text OR TARGET bench_ops OR NOT TARGET uniperceiver::static)
  message(FATAL_ERROR "not the library alone")
endif()
END
for project in inside fetched; do
    cmake -S $project -B $project/build -DCMAKE_C_COMPILER="$cc" -DUP="$source" \
        -DCMAKE_C_COMPILER_LAUNCHER="$(type -P ccache || true)" >log 2>&1 || { cat log; fail "$project: configure"; }
done
cmake --build inside/build -j2 --target inside >log 2>&1 || { cat log; fail "inside: build"; }

expected=
for program in ./shared ./static project/build/packaged project/build/packaged_static inside/build/inside; do
    out=$(LD_LIBRARY_PATH=$lib "$program" tiny.safetensors "$source/golden/image/jpeg_420.jpg" cat dog "a red car") || fail "$program"
    test "$(wc -l <<<"$out")" = 3 || fail "$program: '$out'"
    test "${expected:=$out}" = "$out" || fail "$program says '$out', the others '$expected'"
done
if LD_LIBRARY_PATH='' ldd static | grep -q libuniperceiver; then fail "the static program wants the shared library"; fi

# Videos come by a module.
if ldd "$prefix/bin/uniperceiver" | grep -E 'libav|libsw'; then fail "the program needs FFmpeg to start"; fi
if [ -e "$lib/uniperceiver/uniperceiver_video.so" ]; then
    "$prefix/bin/uniperceiver" encode --model tiny.safetensors --out out.npy --video "$source/golden/video/h264.mp4" >/dev/null ||
        fail "a video with the module"
    if UP_VIDEO_MODULE=/nowhere/module.so "$prefix/bin/uniperceiver" encode --model tiny.safetensors --out out.npy \
        --video "$source/golden/video/h264.mp4" >/dev/null 2>log; then fail "a video without the module"; fi
    grep -q FFmpeg log || { cat log; fail "the message does not name what is missing"; }
fi

# What goes with it.
for file in LICENSE NOTICE; do
    test -s "$prefix/share/doc/uniperceiver/$file" || fail "$file is not installed"
done
bash -n "$prefix/share/bash-completion/completions/uniperceiver" || fail "bash completion"
bash -c '. "$1"; PATH=$2:$PATH; COMP_WORDS=(uniperceiver cla) COMP_CWORD=1; _uniperceiver; test "${COMPREPLY[*]}" = classify' \
    - "$prefix/share/bash-completion/completions/uniperceiver" "$prefix/bin" || fail "bash completion of commands"
if type -P help2man >/dev/null; then
    gzip -dc "$prefix/share/man/man1/uniperceiver-classify.1.gz" | grep -q 'labels.*FILE' || fail "the manual of classify"
fi

# Undone, it leaves nothing.
cmake --install "$build" --prefix "$work/gone" >/dev/null
(cd "$build" && cmake -P "$source/cmake/uninstall.cmake")
left=$(find "$work/gone" -mindepth 1)
test -z "$left" || fail "uninstall leaves $left"
echo "$expected"
