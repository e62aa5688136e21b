#!/bin/bash
# demo.sh [--fresh] [--backend NAME] [--seed N] [--steps N] - builds the program, trains the small model of
# configs/demo.yaml from scratch and evaluates it: a table here, the same numbers in runs/demo/metrics.json. Then it tunes
# prompts with a tenth of the rows of a task that the model never saw, and writes all of it as a page, runs/demo/report.html.
#   --fresh          remove the results of an earlier run first
#   --backend NAME   cpu (default) or ref
#   --seed N         another seed than the file's, in its own folder, runs/demo-seed-N (scripts/demo_seeds.sh: several)
#   --steps N        a quick try of N steps; it has its own folder, runs/demo-N
# An interrupted run goes on where it was. Missing packages are installed through apt-get where that is allowed.
set -eu
cd "$(dirname "$0")"

fresh=0 backend=cpu seed='' steps='' run=runs/demo
while [ $# -gt 0 ]; do
    case $1 in
    --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --fresh) fresh=1 ;;
    --backend=* | --seed=* | --steps=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
    --backend) backend=${2:?--backend wants a name} && shift ;;
    --seed) seed=${2:?--seed wants a number} && shift ;;
    --steps) steps=${2:?--steps wants a number} && shift ;;
    *)
        echo "demo.sh: unknown flag \"$1\" (see ./demo.sh --help)" >&2
        exit 2
        ;;
    esac
    shift
done
[ "$backend" = cpu ] || run+=-$backend
settings=(configs/demo.yaml)
if [ -n "$seed" ]; then
    run+=-seed-$seed
    settings+=("seed=$seed")
fi
if [ -n "$steps" ]; then
    run+=-$steps
    settings+=("steps=$steps")
fi
[ "$run" = runs/demo ] || settings+=("run=$run")

scripts/install-dependencies.sh demo
mkdir -p build
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DUP_TESTS=OFF >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
sed -n '/Uniperceiver/,/CUDA/p' build/configure.log
cmake --build build -j "$(nproc)" >build/build.log 2>&1 || { grep -A 8 -E 'error|Error' build/build.log | head -60; exit 1; }

# Each archive once: its checksum stays beside what was in it.
mkdir -p build/demo-data
for archive in demo/data/*.tar.gz; do
    name=$(basename "$archive" .tar.gz) sum=$(sha256sum <"$archive")
    if [ "$(cat "build/demo-data/$name.sha256" 2>/dev/null)" != "$sum" ]; then
        rm -rf "build/demo-data/$name"
        tar -xzf "$archive" -C build/demo-data
        echo "$sum" >"build/demo-data/$name.sha256"
    fi
done

peak=0
measured() { # measured COMMAND...: run it, and remember the most memory that any command had, in KiB
    local code=0 kib
    if type -P time >/dev/null; then
        command time -q -f %M -o build/peak "$@" || code=$?
        kib=$(tail -1 build/peak)
        [ "${kib:-0}" -le "$peak" ] || peak=$kib
    else
        "$@" || code=$?
    fi
    return $code
}

if [ $fresh = 1 ]; then rm -rf "$run" "$run-questions"; fi
resume=()
if [ -e "$run/model.safetensors" ]; then
    echo "$run holds a finished run; ./demo.sh --fresh trains anew. Evaluating it again."
else
    if compgen -G "$run/checkpoint-*" >/dev/null; then
        echo "$run holds an unfinished run: going on from its last checkpoint."
        resume=(--resume)
    fi
    measured build/uniperceiver train "${settings[@]}" --backend "$backend" ${resume[0]+"${resume[@]}"} ||
        { echo "demo.sh: training did not end; the same command goes on with it" >&2; exit 1; }
fi
measured build/uniperceiver eval "${settings[@]}" --backend "$backend"

# A task that pre-training never saw: as the model is, and with prompts tuned on a tenth of its rows.
tuning=(configs/tune-questions.yaml "run=$run-questions" "init_from=$run" tasks.0.fraction=0.1)
echo
mkdir -p "$run-questions"
echo "Questions that it never saw, without tuning:"
measured build/uniperceiver eval "${tuning[@]}" --model "$run/model.safetensors" --json "$run-questions/untuned.json" --backend "$backend" --quiet
if [ ! -e "$run-questions/tuned.safetensors" ]; then
    measured build/uniperceiver train "${tuning[@]}" --backend "$backend" --quiet
fi
echo
echo "The same after prompt tuning with 10% of their rows:"
measured build/uniperceiver eval "${tuning[@]}" --backend "$backend" --quiet

build/uniperceiver report "$run"
echo
echo "demo.sh: done in $SECONDS s, peak memory $((peak / 1024)) MiB; numbers in $run/metrics.json, model in $run/model.safetensors,
what was tuned in $run-questions/tuned.safetensors ($(du -k "$run-questions/tuned.safetensors" | cut -f 1) KiB); all of it to look at: $run/report.html"
