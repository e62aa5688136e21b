#!/bin/bash
# cuda_host.sh [SEEDS] - the full form of what ctest does with the CUDA backend on the host executor: every case of every
# operation at each element type, in both modes, each time with another order of blocks, threads and streams (SEEDS: how many,
# 3). Takes some minutes a seed. The build is build/work, or what UP_BUILD says.
set -eu
cd "$(dirname "$0")/.."
tests=${UP_BUILD:-build/work}/tests
export UP_SOURCE_DIR=$PWD OMP_WAIT_POLICY=passive
for seed in $(seq "${1:-3}"); do
    export UP_CUDA_HOST_SEED=$seed UP_TEST_SEED=$((1000 * seed))
    for mode in fast checked; do
        for type in f32 bf16 f16; do
            echo "seed $seed, $mode, $type"
            UP_CASE_DTYPE=$type "$tests/test_parity_cuda_$mode"
        done
    done
    for program in golden encoder step; do
        "$tests/test_${program}_cuda_fast"
    done
    UP_CUDA_HOST_SM=70 UP_CASE_DTYPE=f16 "$tests/test_parity_cuda_fast"
done
