#!/bin/bash
# fuzz_import.sh [SECONDS] - libFuzzer with AddressSanitizer and UBSan over the reader of PyTorch's checkpoints
# (tests/fuzz/fuzz_torch.c). The corpus stays in build/fuzz; a finding is left there as crash-*. Needs clang.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
work=$source/build/fuzz seconds=${1:-60}
clang=${CLANG:-$(command -v clang-14 || command -v clang)}
mkdir -p "$work/corpus"
cd "$work"
files=$source/src/files
# shellcheck disable=SC2046
"$clang" -g -O1 -std=gnu11 -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -I"$source/include" -I"$source/src" -I"$source" "$source/tests/fuzz/fuzz_torch.c" "$files"/torch_file.c \
    "$files"/pickle.c "$files"/zip.c "$files"/zip_write.c "$files"/file.c "$files"/safetensors.c "$files"/json.c \
    "$source"/ref/ops/cast.c "$source"/ref/status.c $(pkg-config --cflags --libs jansson) -lz -lm -o fuzz_torch

# Seeds: sound checkpoints, whole and as their pickles alone.
for file in "$source"/golden/released/*.pth; do
    [ -e "$file" ] || continue
    name=$(basename "$file")
    { printf '\0' && cat "$file"; } >"corpus/whole-$name"
    { printf '\1' && unzip -p "$file" '*/data.pkl'; } >"corpus/pickle-$name"
done
exec ./fuzz_torch -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 corpus
