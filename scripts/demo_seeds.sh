#!/bin/bash
# demo_seeds.sh [--table] [--fresh] [SEED...] - trains and evaluates the demo once for each seed (1 to 5 where none is named)
# and prints worst, median and best of each of its numbers. One folder a seed, runs/demo-seed-N: what is finished there
# stays, what was interrupted goes on.
#   --table   only the table, of the seeds that are finished
#   --fresh   remove the results of earlier runs first
set -eu
cd "$(dirname "$0")/.."

table=0 fresh=() seeds=()
for argument; do
    case $argument in
    --help)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --table) table=1 ;;
    --fresh) fresh=(--fresh) ;;
    '' | *[!0-9]*)
        echo "demo_seeds.sh: \"$argument\" is no seed and no flag (see --help)" >&2
        exit 2
        ;;
    *) seeds+=("$argument") ;;
    esac
done
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3 4 5)

finished=()
for seed in "${seeds[@]}"; do
    run=runs/demo-seed-$seed
    if [ $table = 0 ] && { [ ${#fresh[@]} -gt 0 ] || [ ! -e "$run/metrics.json" ]; }; then
        echo "== seed $seed"
        ./demo.sh --seed "$seed" ${fresh[0]+"${fresh[@]}"}
    fi
    if [ -e "$run/metrics.json" ]; then finished+=("$run/metrics.json"); fi
done
if [ ${#finished[@]} = 0 ]; then
    echo "demo_seeds.sh: no seed is finished" >&2
    exit 1
fi

# The scores as program output writes them: one key a line. `sigmas` as in the table of one run.
awk '
function field() { # what stands behind the colon
    sub(/^[^:]*: */, "")
    sub(/,$/, "")
    gsub(/"/, "")
    return $0
}
function sorted(list, n,    i, j, x) {
    for (i = 2; i <= n; i++) {
        x = list[i]
        for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]
        list[j + 1] = x
    }
}
function middle(list, n) { return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2 }
FNR == 1 { runs++ }
/^ *"task":/ { task = field() }
/^ *"trained":/ { trained = field() }
/^ *"metric":/ { metric = field() }
/^ *"value":/ { value = field() + 0 }
/^ *"chance":/ { chance = field() + 0 }
/^ *"standard_error":/ { error = field() + 0 }
/^ *"n":/ {
    n = field() + 0
    if (error <= 0) error = sqrt(chance * (1 - chance) / n)
    key = sprintf("%-24s %-18s", task, metric)
    if (!(key in count)) {
        order[++keys] = key
        never[key] = trained == "false"
    }
    i = ++count[key]
    values[key, i] = value
    chances[key, i] = chance
    sigmas[key, i] = error > 0 ? (value - chance) / error : 0
}
END {
    printf "%d seeds\n  %-43s  %6s  %6s  %6s  %6s  %9s  %9s\n", runs, "task and metric", "worst", "median", "best",
        "chance", "sigmas,", "times,"
    printf "  %-43s  %6s  %6s  %6s  %6s  %9s  %9s\n", "", "", "", "", "median", "median", "least"
    for (part = 0; part < 2; part++) {
        print part ? "Tasks that were never trained" : "Tasks that were trained, on data that was not"
        for (k = 1; k <= keys; k++) {
            key = order[k]
            if (never[key] != part) continue
            n = count[key]
            times = 0
            for (i = 1; i <= n; i++) {
                v[i] = values[key, i]
                c[i] = chances[key, i]
                s[i] = sigmas[key, i]
                ratio = c[i] > 0 ? v[i] / c[i] : 0
                if (i == 1 || ratio < times) times = ratio
            }
            sorted(v, n)
            sorted(c, n)
            sorted(s, n)
            printf "  %s  %6.3f  %6.3f  %6.3f  %6.3f  %9.1f  %9.2f\n", key, v[1], middle(v, n), v[n], middle(c, n),
                middle(s, n), times
        }
    }
    print "sigmas: standard errors above chance; times chance: the least value / chance of a seed"
}' "${finished[@]}"
