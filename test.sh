#!/bin/bash
# test.sh [--sanitize] [--clang] [--valgrind] [--thread] [--all] - builds everything with warnings as errors and runs every test.
#   no flag      gcc, Release
#   --sanitize   gcc with the address and undefined behaviour sanitizers
#   --clang      clang, Release
#   --valgrind   every run of the program in the command-line test under valgrind: no error, no leak
#   --thread     gcc with ThreadSanitizer, the tests that have threads
#   --all        all five, one after the other
# Missing packages are installed through apt-get where that is allowed. Exit code 0: all passed.
set -eu
cd "$(dirname "$0")"

runs=()
for flag; do
    case $flag in
    --help)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --sanitize | --clang | --valgrind | --thread) runs+=("${flag#--}") ;;
    --all) runs=(gcc sanitize clang valgrind thread) ;;
    *)
        echo "test.sh: unknown flag \"$flag\" (see ./test.sh --help)" >&2
        exit 2
        ;;
    esac
done
[ ${#runs[@]} -gt 0 ] || runs=(gcc)

uses=(test)
for run in "${runs[@]}"; do
    case $run in clang | valgrind) uses+=("$run") ;; esac
done
scripts/install-dependencies.sh "${uses[@]}"
jobs=$(nproc)

build() { # build FOLDER CMAKE_FLAG...
    local folder=$1
    shift
    cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DUP_WERROR=ON "$@" >"$folder.log" 2>&1 || { cat "$folder.log"; return 1; }
    sed -n '/Uniperceiver/,/CUDA/p' "$folder.log"
    cmake --build "$folder" -j "$jobs" >>"$folder.log" 2>&1 || { grep -A 8 -E 'error|Error' "$folder.log" | head -60; return 1; }
}

tests() { # tests FOLDER CTEST_FLAG...: ctest's own list and summary
    local folder=$1
    shift
    ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$jobs" "$@"
}

# Matrix products are our own kernels' here: oneDNN is not instrumented, and what its threads agree on with OpenMP's is not
# seen. Nothing is suppressed; the first report ends a test.
thread_run() {
    UP_CPU_GEMM=own TSAN_OPTIONS=halt_on_error=1 tests build/test-thread -L threads
}

# The program that the test calls is valgrind around the real one; each process leaves its findings in a file. Matrix products
# are our own kernels' here: the code that oneDNN generates reads behind its own buffers.
valgrind_run() {
    local folder=$PWD/build/test-gcc/valgrind code=0
    rm -rf "$folder" && mkdir -p "$folder"
    printf '#!/bin/sh\nexec valgrind -q --malloc-fill=0xAA --leak-check=full --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect --error-exitcode=99 --suppressions=%s --log-file=%s/%%p.log %s "$@"\n' \
        "$PWD/tests/valgrind.supp" "$folder" "$PWD/build/test-gcc/uniperceiver" >"$folder/uniperceiver"
    chmod +x "$folder/uniperceiver"
    UP_CPU_GEMM=own UP_SOURCE_DIR=$PWD UP_BINARY=$folder/uniperceiver UP_EXAMPLE=$PWD/build/test-gcc/tests/example_classify \
        bash tests/test_cli.sh || code=1
    echo "valgrind: $(find "$folder" -name '*.log' | wc -l) processes, $(find "$folder" -name '*.log' -size +0 | wc -l) with findings"
    find "$folder" -name '*.log' -size +0 -exec head -40 {} + | head -200
    [ $code = 0 ] && [ -z "$(find "$folder" -name '*.log' -size +0 -print -quit)" ]
}

one() {
    case $1 in
    gcc) build build/test-gcc && tests build/test-gcc ;;
    sanitize) build build/test-sanitize -DUP_SANITIZE=address,undefined && tests build/test-sanitize ;;
    clang) build build/test-clang -DCMAKE_C_COMPILER=clang && tests build/test-clang ;;
    valgrind) build build/test-gcc && valgrind_run ;;
    thread) build build/test-thread -DUP_SANITIZE=thread && thread_run ;;
    esac
}

mkdir -p build
failed=()
for run in "${runs[@]}"; do
    echo "== $run"
    one "$run" || failed+=("$run")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "test.sh: FAILED: ${failed[*]} (${#failed[@]} of ${#runs[@]}), after $SECONDS s"
    exit 1
fi
echo "test.sh: passed: ${runs[*]}, in $SECONDS s"
