#!/bin/bash
# tuning_table.sh [--program FILE] [--table] [--fresh] [SEED...] - tunes the demo's models on tasks that they never saw
# (configs/tune-*.yaml): prompt tuning with 1% and 10% of the rows, fine-tuning of everything with all of them, and prints
# one table with no tuning beside them. A seed (1 2 3 where none is named) names a pre-trained model, chooses the rows and
# seeds the tuning. Wants the models, which ./demo.sh (seed 1) and ./demo.sh --seed N make, and build/demo-data. What is
# finished in runs/tuning stays.
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
        sed -n '2,10s/^# \{0,1\}//p' "$0"
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
model_of() { # model_of SEED: the folder of its pre-trained model
    if [ "$1" = 1 ]; then echo runs/demo; else echo "runs/demo-seed-$1"; fi
}
for seed in "${seeds[@]}"; do
    [ ! -e "$(model_of "$seed")/model.safetensors" ] || continue
    echo "tuning_table.sh: no $(model_of "$seed")/model.safetensors: ./demo.sh makes it, with --seed $seed for other seeds than 1" >&2
    exit 1
done

tasks=(topic caption retrieval questions vqa)
ways=("prompts 0.01" "prompts 0.1" "all 1")
# Few rows are learned by heart in few steps.
declare -A steps=(["prompts 0.01"]=60 ["prompts 0.1"]=100 ["all 1"]=200)
declare -A steps_of=(["questions prompts 0.01"]=100)
steps_of["retrieval prompts 0.1"]=300 # chosen on clips of the training list that were kept back
steps_for() { # steps_for TASK WAY FRACTION
    echo "${steps_of["$*"]:-${steps["$2 $3"]}}"
}
fine_tuning=(optimizer.lr=5e-4 optimizer.decay=0.05)

# One run and its evaluation: metrics.json, and processor seconds and KiB of training in cost.
tune() { # tune TASK WAY FRACTION SEED
    local run=runs/tuning/$1-$2-$3-$4 more
    more=("run=$run" "init_from=$(model_of "$4")" "tune=$2" "seed=$4" "steps=$(steps_for "$1" "$2" "$3")")
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

none_of() { # none_of TASK SEED: the file of the scores without tuning
    echo "runs/tuning/$1-none-$2/metrics.json"
}

leave_untuned() { # leave_untuned TASK SEED
    local scores
    scores=$(none_of "$1" "$2")
    [ ! -e "$scores" ] || return 0
    mkdir -p "$(dirname "$scores")"
    "$program" eval "$configs/tune-$1.yaml" --model "$(model_of "$2")/model.safetensors" --quiet --json "$scores" >/dev/null
}

if [ $table = 0 ]; then
    for seed in "${seeds[@]}"; do
        for task in "${tasks[@]}"; do
            leave_untuned "$task" "$seed"
            for way in "${ways[@]}"; do tune "$task" $way "$seed"; done
        done
    done
fi

# Values of a metrics.json: the first metric of each. (Recall: from inputs to texts.)
value_of() { awk '/^ *"value":/ { gsub(/[^-0-9.e]*/, "", $2); print $2; exit }' "$1"; }
metric_of() { awk -F'"' '/^ *"metric":/ { print $4; exit }' "$1"; }
chance_of() { awk '/^ *"chance":/ { gsub(/[^-0-9.e]*/, "", $2); print $2; exit }' "$1"; }

results_of() { # results_of TASK WAY FRACTION: a line a seed: value, value without tuning, bytes, seconds, seconds, KiB
    local seed run result none
    for seed in "${seeds[@]}"; do
        none=$(none_of "$1" "$seed")
        run=runs/tuning/$1-$2-$3-$seed
        if [ ! -e "$run/metrics.json" ] || [ ! -e "$none" ]; then continue; fi
        result=$run/model.safetensors
        [ -e "$result" ] || result=$run/tuned.safetensors
        echo "$(value_of "$run/metrics.json") $(value_of "$none") $(stat -c %s "$result") $(cat "$run/cost")"
    done
}

spread='
    function mean(v, n,    i, sum) { for (i = 1; i <= n; i++) sum += v[i]; return sum / n }
    function spread(v, n,    i, squares) {
        for (i = 1; i <= n; i++) squares += (v[i] - mean(v, n)) ^ 2
        return n > 1 ? sqrt(squares / (n - 1)) : 0
    }'
whole=$(stat -c %s "$(model_of "${seeds[0]}")/model.safetensors")
printf '%-10s %-18s %-25s %6s %7s  %7s %7s  %10s %8s  %7s %6s\n' task metric tuning mean spread gain spread 'stored, B' \
    'of model' 'ms/step' MiB
for task in "${tasks[@]}"; do
    none=$(none_of "$task" "${seeds[0]}")
    [ -e "$none" ] || continue
    for seed in "${seeds[@]}"; do
        [ ! -e "$(none_of "$task" "$seed")" ] || value_of "$(none_of "$task" "$seed")"
    done | awk -v task="$task" -v metric="$(metric_of "$none")" -v chance="$(chance_of "$none")" "$spread"'
        { v[NR] = $1 }
        END { printf "%-10s %-18s %-25s %6.3f %7.3f  (chance %.3f)\n", task, metric, "none", mean(v, NR), spread(v, NR), chance }'
    for way in "${ways[@]}"; do
        read -r kind fraction <<<"$way"
        results_of "$task" $way | awk -v whole="$whole" -v steps="$(steps_for "$task" $way)" -v kind="$kind" \
            -v fraction="$fraction" "$spread"'
            { v[NR] = $1; gain[NR] = $1 - $2; size = $3; seconds += $4 + $5; if ($6 > kib) kib = $6 }
            END {
                if (!NR) exit
                name = (kind == "all" ? "everything" : "prompts") ", " 100 * fraction "% of data"
                printf "%-10s %-18s %-25s %6.3f %7.3f  %+7.3f %7.3f  %10d %7.2f%%  %7.0f %6.0f\n", "", "", name,
                    mean(v, NR), spread(v, NR), mean(gain, NR), spread(gain, NR), size, 100 * size / whole,
                    1000 * seconds / NR / steps, kib / 1024
            }'
    done
done
echo "mean and spread (standard deviation) over ${#seeds[@]} pre-trained models, each with other rows; gain: over no tuning of the"
echo "same model; stored: the result's file beside the shared model; ms/step: processor time of training; MiB: its peak"
