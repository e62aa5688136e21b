#!/bin/bash
# cuda_compile.sh [FILE...] - compiles CUDA sources (backend_cuda/*.cu where none is named) for every architecture that the
# toolkit knows, and for sm_70 by NVRTC 12.9, which still does. Prints registers, spills and shared memory of each kernel.
# Exit code 1: something did not compile, or a kernel spills whose name stands in backend_cuda/hot_kernels, one a line;
# 77: there is nothing to compile, or no nvcc.
#   UP_CUDA_ARCHITECTURES="80 90"   these alone, and sm_70 only with 70 among them
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C
work=build/cuda-compile
mkdir -p "$work"
files=("$@")
[ $# -gt 0 ] || files=(backend_cuda/*.cu)
if [ ! -e "${files[0]}" ]; then
    echo "cuda_compile: skipped: no ${files[0]}"
    exit 77
fi
nvcc=$(type -P nvcc || type -P /usr/local/cuda/bin/nvcc || true)
if [ -z "$nvcc" ]; then
    echo "cuda_compile: skipped: no nvcc"
    exit 77
fi
known=$("$nvcc" --list-gpu-code | sed -n 's/^sm_//p' | sort -n)
wanted=${UP_CUDA_ARCHITECTURES:-$known 70}
failed=0

# rows ARCHITECTURE FILE: the report of ptxas, a line a kernel; spills of hot kernels are failures.
rows() {
    c++filt | awk -v arch="$1" -v file="$2" -v hot="$(cat backend_cuda/hot_kernels 2>/dev/null || true)" '
        BEGIN { count = split(hot, names, "\n") }
        /Compiling entry function/ { name = $0; sub(/^[^\047]*\047/, "", name); sub(/\047 for .*/, "", name); sub(/^void /, "", name); sub(/\([^()]*\)$/, "", name) }
        /bytes spill stores/ { spill = $0; sub(/.*frame, /, "", spill); stores = spill + 0; sub(/.*stores, /, "", spill); loads = spill + 0 }
        /Used [0-9]+ registers/ {
            registers = $0; sub(/.*Used /, "", registers)
            shared = 0
            if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
            verdict = ""
            for (i = 1; i <= count; i++) if (names[i] != "" && index(name, names[i]) && stores + loads > 0) { verdict = "  FAILED: a hot kernel spills"; bad = 1 }
            printf "sm_%-4s %-28s %-60s %3d registers %4d bytes spilled %5d bytes shared%s\n", arch, file, name, registers + 0, stores + loads, shared, verdict
        }
        END { exit bad }'
}

with_nvcc() { # ARCHITECTURE FILE
    local log=$work/$(basename "$2").sm_$1
    if ! "$nvcc" -x cu -std=c++17 -O3 -I. -Iinclude -gencode "arch=compute_$1,code=sm_$1" -Xptxas -v -c "$2" -o "$log.o" >"$log.log" 2>&1; then
        cat "$log.log"
        return 1
    fi
    rows "$1" "$2" <"$log.log"
}

wheels() { # a folder of Python packages with NVRTC 12.9, its headers and ptxas
    [ -x "$work/python/bin/python" ] || python3 -m venv "$work/python"
    "$work/python/bin/pip" install -q --disable-pip-version-check nvidia-cuda-{nvrtc,runtime,cccl,nvcc}-cu12==12.9.*
}

# NVRTC compiles kernels alone, and templates only where they are asked for by name: the names are those that nvcc made.
with_nvrtc() { # FILE
    local name=$work/$(basename "$1") newest
    newest=$(echo "$known" | tail -1)
    [ -e "$name.sm_$newest.o" ] || with_nvcc "$newest" "$1" >/dev/null || true # spills there are not asked here
    [ -e "$name.sm_$newest.o" ] || { cat "$name.sm_$newest.log"; return 1; }
    sed -n "s/.*Compiling entry function '\(.*\)' for .*/\1/p" "$name.sm_$newest.log" | c++filt | sed 's/^void //; s/([^()]*)$//; s/(anonymous namespace):://g' |
        sort -u >"$name.kernels"
    "$work/python/bin/python" scripts/nvrtc.py 70 "$1" "$name.sm_70.ptx" "$name.kernels" >"$name.sm_70.log" 2>&1 &&
        "$work"/python/lib/python3*/site-packages/nvidia/cuda_nvcc/bin/ptxas -v -arch=sm_70 "$name.sm_70.ptx" -o "$name.sm_70.cubin" >>"$name.sm_70.log" 2>&1 ||
        { cat "$name.sm_70.log"; return 1; }
    rows 70 "$1" <"$name.sm_70.log"
}

for file in "${files[@]}"; do
    rm -f "$work/$(basename "$file")".*
    for architecture in $wanted; do
        if [ "$architecture" != 70 ] || grep -qx 70 <<<"$known"; then
            with_nvcc "$architecture" "$file" || failed=1
        elif wheels >"$work/wheels.log" 2>&1; then
            with_nvrtc "$file" || failed=1
        else
            echo "sm_70   $file: skipped: this toolkit does not know sm_70, and NVRTC 12.9 could not be installed ($work/wheels.log)"
        fi
    done
done
exit $failed
