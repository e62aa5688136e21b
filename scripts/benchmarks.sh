#!/bin/bash
# benchmarks.sh [--quick] [--build FOLDER] [--python PROGRAM] [--preset NAME] [--out FILE] [--parts LIST] [--keep]
#   Measures everything of bench/ and writes docs/benchmarks.md: the machine and its peak, operations, steps of Base and
#   tiny, and the same work in other programs, by AVX-512 and AVX2, f32 and bf16, one thread and all. What this processor
#   or this Python has not is left out and said. Run it on a machine that does nothing else: some 25 minutes on two
#   cores with AVX-512, twice that with AVX2 alone.
#   --quick    fewer turns, no compiled PyTorch but for encoding, a smaller part of the vocabulary: some 8 minutes
#   --build    folder of the built programs (build)
#   --python   a Python with the other programs (python3); bench/peers/setup.sh makes one
#   --preset   the larger model (base)
#   --out      the page (docs/benchmarks.md)
#   --parts    of peak,ops,steps,memory,peers (all); with --keep, what was measured before stays beside them
#   --keep     go on with the results of the last run, in FOLDER/benchmarks
set -eu
cd "$(dirname "$0")/.."
build=build python=python3 preset=base out=docs/benchmarks.md quick= keep= parts=peak,ops,steps,memory,peers
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --keep) keep=1 ;;
    --build | --python | --preset | --out | --parts)
        [ $# -gt 1 ] || { echo "benchmarks.sh: $1: a value is missing" >&2; exit 2; }
        declare "${1#--}=$2"
        shift
        ;;
    --help)
        sed -n '2,14s/^# \{0,3\}//p' "$0"
        exit 0
        ;;
    *)
        echo "benchmarks.sh: unknown flag \"$1\" (see scripts/benchmarks.sh --help)" >&2
        exit 2
        ;;
    esac
    shift
done
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE OMP_NUM_THREADS UP_CPU_ISA UP_CPU_GEMM ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA

results=$build/benchmarks
[ -n "$keep" ] || rm -rf "$results"
mkdir -p "$results"
isas=
for isa in avx512 avx2; do
    ! "$build/bench_ops" --isa $isa --json no-operation >/dev/null 2>&1 || isas="$isas $isa"
done
[ -n "$isas" ] || isas=base
threads=$(nproc)
began=$SECONDS

said() { echo "[$((SECONDS - began)) s] $*" >&2; }
measured() { # NAME COMMAND...: lines of JSON into NAME.jsonl; what fails is said, and the rest goes on
    local name=$1
    shift
    "$@" >>"$results/$name.jsonl" || echo "benchmarks.sh: failed: $*" >&2
}
wanted() { case ,$parts, in *,$1,*) said "$1" && { [ -z "$keep" ] || rm -f "$results/$1".jsonl; } ;; *) return 1 ;; esac }
step() { measured steps "$build/bench_step" --json "$@"; }
compare() { bench/peers/compare.py --build "$build" --python "$python" --preset "$preset" --json "$results/$part.jsonl" "$@" >&2; }
listed() { echo "$@" | tr ' ' ,; }

if wanted peak; then
    measured peak "$build/bench_peak" --json
fi

if wanted ops; then
    operations=$([ "$preset" = base ] && echo base || echo demo)
    seconds=$([ -n "$quick" ] && echo 0.1 || echo 0.3)
    for isa in $isas; do
        for dtype in f32 bf16; do
            [ $isa-$dtype != avx2-bf16 ] || continue # computed in f32
            for n in 1 $threads; do
                [ -z "$quick" ] || [ "$n" = "$threads" ] || continue
                measured ops "$build/bench_ops" --json --isa $isa --dtype $dtype --threads "$n" --seconds $seconds $operations
            done
        done
    done
fi

if wanted steps; then
    turns=$([ -n "$quick" ] && echo 2 || echo 4)
    all=(--preset "$preset" --isa "$(listed $isas)" --repeat "$turns")
    best=${isas# }
    best=(--preset "$preset" --isa "${best%% *}")
    step encode train "${all[@]}" --dtype f32,bf16
    step texts captions tune "${all[@]}" --dtype f32
    step texts captions tune "${best[@]}" --repeat "$turns" --dtype bf16
    step encode train "${all[@]}" --dtype f32,bf16 --threads 1 --repeat $((turns / 2))
    step --preset tiny --isa "$(listed $isas)" --dtype f32,bf16 --repeat $((5 * turns)) encode train texts captions tune
    step beam beam_whole "${best[@]}" --dtype f32 --repeat 1 --entries 4096
    step beam "${best[@]}" --dtype f32,bf16 --repeat $((2 * turns)) --entries 4096
    if [ -n "$quick" ]; then
        step vocabulary "${best[@]}" --dtype f32 --repeat 1 --entries 1024
    else
        step vocabulary "${all[@]}" --dtype f32 --repeat 1 --entries 4096
        step vocabulary "${best[@]}" --dtype f32 --repeat 1 --warm 0 --entries 0
    fi
fi

part=memory
if wanted memory; then
    for dtype in f32 bf16; do
        [ -z "$quick" ] || [ $dtype = f32 ] || continue
        compare --memory --dtype $dtype
    done
fi

part=peers
if wanted peers; then
    turns=$([ -n "$quick" ] && echo 3 || echo 4)
    for isa in $isas; do
        for dtype in f32 bf16; do
            [ $isa-$dtype != avx2-bf16 ] || continue
            compiled=
            [ -n "$quick" ] && [ $isa-$dtype != avx512-f32 ] || compiled=--compiled
            compare encode --isa $isa --dtype $dtype --turns $turns $compiled
            [ -z "$quick" ] || [ $isa-$dtype = avx512-f32 ] || continue
            compare train --isa $isa --dtype $dtype --turns $turns ${compiled:+$([ -n "$quick" ] || echo --compiled)}
            compare texts --isa $isa --dtype $dtype --turns $turns
        done
    done
    compare tokens jpeg --turns 9
    [ -n "$quick" ] || compare encode train --isa "${isas##* }" --threads 1 --turns 2
fi

took=$((SECONDS - began))
[ -z "$keep" ] || took=0
python3 bench/report.py "$results" $took "${quick:+quick}" >"$out"
said "$out written"
