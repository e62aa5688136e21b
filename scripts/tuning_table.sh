#!/bin/bash
# tuning_table.sh [--program FILE] [--table] [--fresh] [SEED...] - tunes the demo's model on four tasks that it never saw
# (configs/tune-*.yaml): prompt tuning with 1% and 10% of the rows, fine-tuning of everything with all of them, each once
# a seed (1 2 3 where none is named; it also chooses the rows), and prints one table with no tuning beside them. Wants
# runs/demo and build/demo-data, which ./demo.sh makes. What is finished in runs/tuning stays.
#   --program FILE   the program (default: build/uniperceiver)
#   --table          only the table, of what is finished
#   --fresh          remove the results of earlier runs first
set -eu
configs=$(cd "$(dirname "$0")/../configs" && pwd)
[ -e runs/demo ] || cd "$(dirname "$0")/.."

program=build/uniperceiver table=0 seeds=()
while [ $# -gt 0 ]; do
    case $1 in
    --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --program) program=${2:?--program wants a file} && shift ;;
    --table) table=1 ;;
    --fresh) rm -rf runs/tuning ;;
    '' | *[!0-9]*)
        echo "tuning_table.sh: \"$1\" is no seed and no flag (see --help)" >&2
        exit 2
        ;;
    *) seeds+=("$1") ;;
    esac
    shift
done
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3)
if [ ! -e runs/demo/model.safetensors ]; then
    echo "tuning_table.sh: no runs/demo/model.safetensors: ./demo.sh makes it" >&2
    exit 1
fi

tasks=(topic caption retrieval vqa)
ways=("prompts 0.01" "prompts 0.1" "all 1")
declare -A steps=(["prompts 0.01"]=60 ["prompts 0.1"]=100 ["all 1"]=200) # few rows are learned by heart in few steps
fine_tuning=(optimizer.lr=5e-4 optimizer.decay=0.05)

# One run and its evaluation: metrics.json, and processor seconds and KiB of training in cost.
tune() { # tune TASK WAY FRACTION SEED
    local run=runs/tuning/$1-$2-$3-$4 more=(run=runs/tuning/$1-$2-$3-$4 "tune=$2" "seed=$4" "steps=${steps["$2 $3"]}")
    more+=("tasks.0.fraction=$3" "tasks.0.fraction_seed=$4" log_every=20)
    [ "$2" = prompts ] || more+=("${fine_tuning[@]}")
    [ ! -e "$run/metrics.json" ] || return 0
    echo "== $run" >&2
    rm -rf "$run"
    mkdir -p runs/tuning
    command time -q -f '%U %S %M' -o runs/tuning/cost "$program" train "$configs/tune-$1.yaml" "${more[@]}" --quiet
    mv runs/tuning/cost "$run/cost"
    "$program" eval "$configs/tune-$1.yaml" "${more[@]}" --quiet >/dev/null
}

if [ $table = 0 ]; then
    for task in "${tasks[@]}"; do
        mkdir -p "runs/tuning/$task-none"
        "$program" eval "$configs/tune-$task.yaml" --model runs/demo/model.safetensors --quiet \
            --json "runs/tuning/$task-none/metrics.json" >/dev/null
        for way in "${ways[@]}"; do
            for seed in "${seeds[@]}"; do tune "$task" $way "$seed"; done
        done
    done
fi

# Values of a metrics.json: the first metric of each. (Recall: from inputs to texts.)
value_of() { awk '/^ *"value":/ { gsub(/[^-0-9.e]*/, "", $2); print $2; exit }' "$1"; }
metric_of() { awk -F'"' '/^ *"metric":/ { print $4; exit }' "$1"; }
chance_of() { awk '/^ *"chance":/ { gsub(/[^-0-9.e]*/, "", $2); print $2; exit }' "$1"; }

whole=$(stat -c %s runs/demo/model.safetensors)
printf '%-10s %-18s %-25s %6s %7s %7s  %10s %8s  %7s %6s\n' task metric tuning mean spread gain 'stored, B' 'of model' \
    'ms/step' 'MiB'
for task in "${tasks[@]}"; do
    none=runs/tuning/$task-none/metrics.json
    [ -e "$none" ] || continue
    base=$(value_of "$none")
    printf '%-10s %-18s %-25s %6.3f   (chance %.3f)\n' "$task" "$(metric_of "$none")" none "$base" "$(chance_of "$none")"
    for way in "${ways[@]}"; do
        read -r kind fraction <<<"$way"
        for seed in "${seeds[@]}"; do
            run=runs/tuning/$task-$kind-$fraction-$seed
            [ -e "$run/metrics.json" ] || continue
            result=$run/model.safetensors
            [ -e "$result" ] || result=$run/tuned.safetensors
            echo "$(value_of "$run/metrics.json") $(stat -c %s "$result") $(cat "$run/cost")"
        done | awk -v base="$base" -v whole="$whole" -v steps="${steps["$way"]}" -v kind="$kind" -v fraction="$fraction" '
            { v[NR] = $1; sum += $1; size = $2; seconds += $3 + $4; if ($5 > kib) kib = $5 }
            END {
                if (!NR) exit
                mean = sum / NR
                for (i = 1; i <= NR; i++) squares += (v[i] - mean) ^ 2
                spread = NR > 1 ? sqrt(squares / (NR - 1)) : 0
                name = (kind == "all" ? "everything" : "prompts") ", " 100 * fraction "% of data"
                printf "%-10s %-18s %-25s %6.3f %7.3f %+7.3f  %10d %7.2f%%  %7.0f %6.0f\n", "", "", name, mean, spread,
                    mean - base, size, 100 * size / whole, 1000 * seconds / NR / steps, kib / 1024
            }'
    done
done
echo "mean and spread (standard deviation) over ${#seeds[@]} seeds, which also choose the rows; gain: over no tuning;"
echo "stored: the result's file beside the shared model; ms/step: processor time of training; MiB: its peak"
