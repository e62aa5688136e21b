#!/bin/bash
# check_install.sh BUILD SOURCE CC - installs into an empty folder and uses what lies there as a stranger would: the example
# program through pkg-config (shared and static) and through the CMake package, and the installed program.
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

# The static library with what uniperceiver.pc says it needs; those libraries themselves are shared ones here.
mapfile -t requires < <(pkg-config --print-requires-private uniperceiver)
read -ra more <<<"$(pkg-config --libs "${requires[@]}") $(pkg-config --variable=static_libs uniperceiver)"
"$cc" -std=c11 -I "$prefix/include" "$source/example/classify.c" "$lib/libuniperceiver.a" "${more[@]}" -o static

mkdir project
cat >project/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(example LANGUAGES C)
find_package(uniperceiver 0.1 REQUIRED)
add_executable(packaged ${SOURCE})
target_link_libraries(packaged PRIVATE uniperceiver::uniperceiver)
END
cmake -S project -B project/build -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" \
    -DSOURCE="$source/example/classify.c" >log 2>&1 || { cat log; fail "the CMake package: configure"; }
cmake --build project/build >log 2>&1 || { cat log; fail "the CMake package: build"; }

expected=
for program in ./shared ./static project/build/packaged; do
    out=$(LD_LIBRARY_PATH=$lib "$program" tiny.safetensors "$source/golden/image/jpeg_420.jpg" cat dog "a red car") || fail "$program"
    test "$(wc -l <<<"$out")" = 3 || fail "$program: '$out'"
    test "${expected:=$out}" = "$out" || fail "$program says '$out', the others '$expected'"
done
if LD_LIBRARY_PATH='' ldd static | grep -q libuniperceiver; then fail "the static program wants the shared library"; fi
echo "$expected"
