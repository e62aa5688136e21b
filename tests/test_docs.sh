#!/bin/bash
# test_docs.sh - the commands of README.md, CONTRIBUTING.md and docs/ as written, in order, in a folder with a small model
# in place of the demo's. A command is an indented line that begins with "$ " or with a program of this project; what the
# page shows below it must be what it prints, but for digits behind a decimal point, unless it asks the demo's model. What is
# not run stands in `left_out` with the reason; an entry that no command matches is a failure, too.
# UP_BINARY and UP_SOURCE_DIR name the program and the source tree.
set -u
export LC_ALL=C.UTF-8
up=${UP_BINARY:?} source=${UP_SOURCE_DIR:?}
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$source/tests/checks.sh"

# PAGE COMMAND-BEGINS-WITH | reason
left_out='
README.md ./demo.sh | minutes; the whole training
README.md ./test.sh | runs this test
README.md build/uniperceiver serve | goes on until it is stopped: test_serve
README.md scripts/demo_seeds.sh | hours
README.md scripts/tuning_table.sh | hours
README.md cmake -S | builds and installs: ctest install
README.md cc example/classify.c | needs an installation: ctest install
README.md ./classify | needs an installation: ctest install
CONTRIBUTING.md ./test.sh | runs this test
CONTRIBUTING.md ./demo.sh | minutes
CONTRIBUTING.md cmake | builds the tree
CONTRIBUTING.md ctest | runs this test
CONTRIBUTING.md build/work/tests/ | a test of its own
CONTRIBUTING.md build/bench_ | measurements, minutes
CONTRIBUTING.md bench/peers/ | installs packages from the network
CONTRIBUTING.md scripts/loader_memory.sh | a minute, 500 MB
CONTRIBUTING.md scripts/benchmarks.sh | measurements, an hour
docs/backend.md cmake | builds the tree
docs/backend.md ctest | runs this test
docs/backend.md build/work/ | for a backend that is not there yet
docs/cuda.md cmake | needs nvcc
docs/metrics.md uniperceiver score | patterns; test_scores and test_cli use them
docs/metrics.md uniperceiver tables | wants runs; test_tasks and test_cli
docs/parallel.md mpirun | minutes; test_ranks and test_hosts
docs/serve.md uniperceiver serve | goes on until it is stopped: test_serve
docs/serve.md uniperceiver index | of a folder of photos: test_bulk
docs/serve.md curl | asks a server: test_serve
docs/serve.md echo | asks a server: test_serve
docs/pretraining.md scripts/paper_run.sh | minutes; ctest paper_run
docs/serve.md bench/serve_load.py | asks a server for a minute
docs/your-own-data.md build/uniperceiver | test_own_data runs the page
'

# --- where the commands find what they name ---
mkdir -p build/demo-data/fashion/test build/demo-data/emoji/test runs/demo
ln -s "$up" build/uniperceiver
for folder in golden configs example scripts; do ln -s "$source/$folder" $folder; done
cp golden/image/png_rgb8.png build/demo-data/fashion/test/00001.png
cp golden/image/jpeg_444.jpg build/demo-data/emoji/test/00091.jpg
"$up" init --preset tiny --seed 1 --out runs/demo/model.safetensors || exit 1

# --- PAGE, command and the output shown, one a line; \n in the output is \v ---
commands() {
    sed -e ':join' -e '/^    .*\\$/{N;s/ *\\\n */ /;b join' -e '}' "$source/$1" | awk -v page="$1" '
        function put() {if (command != "") print page "\t" command "\t" shown; command = shown = blank = ""}
        /^    (\$ |\.\/|build\/|scripts\/|bench\/|cmake |ctest |cc |mpirun |uniperceiver [a-z]+ )/ {
            if (command != "" && dollar && !/^    \$ /) {shown = shown blank substr($0, 5) "\v"; blank = ""; next}
            put(); dollar = /^    \$ /; command = substr($0, dollar ? 7 : 5)
            if (!dollar) sub(/   +.*/, "", command)
            next}
        /^    / {if (command != "") shown = shown blank substr($0, 5) "\v"; blank = ""; next}
        /^$/ {if (command != "") blank = blank "\v"; next}
        {put()}
        END {put()}'
}
plain() { sed -E 's/([0-9])\.[0-9]+/\1.N/g'; }

declare -A used=()
reason_of() { # reason_of PAGE COMMAND: sets $reason where it is left out
    local entry
    reason=
    while IFS= read -r entry; do
        [ -n "$entry" ] || continue
        if [[ "$1 $2" == "${entry%% |*}"* ]]; then
            reason=${entry##*| }
            used[$entry]=1
            return
        fi
    done <<<"$left_out"
}

cd "$source" && pages=(README.md CONTRIBUTING.md docs/*.md) && cd "$work" || exit 1
ran=0 left=0
for page in "${pages[@]}"; do commands "$page"; done >commands
while IFS=$'\t' read -r page command shown; do
    reason_of "$page" "$command"
    if [ -n "$reason" ]; then
        left=$((left + 1))
        continue
    fi
    ran=$((ran + 1))
    bash -c "$command" >output 2>&1 </dev/null
    code=$?
    [[ $shown == "uniperceiver: "* ]] || count "$page: $command: exit $code: $(head -3 output)" test $code -eq 0
    [[ -z $shown || $command == *runs/demo* ]] && continue
    wanted=$(tr '\v' '\n' <<<"$shown" | sed -e '$d' | plain)
    found=$(plain <output)
    count "$page: $command: prints"$'\n'"$found"$'\n'"the page says"$'\n'"$wanted" test "$found" = "$wanted"
done <commands
while IFS= read -r entry; do
    [ -z "$entry" ] || count "no command for the entry: $entry" test -n "${used[$entry]:-}"
done <<<"$left_out"
count "$ran commands run, 10 at least" test $ran -ge 10
echo "$ran commands run, $left left out with a reason"
finish
