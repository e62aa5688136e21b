#!/bin/bash
# loader_memory.sh [--program FILE] [--samples N] [--lines N] FOLDER - memory and start of training on large lists, through the
# program itself: a whole epoch of N small samples (1,000,000), and N lines (10,000,000) of which as many are read as come
# in a minute. Prints when the first step was done with the index to be made and with the index made, and how memory went.
# Makes its lists in FOLDER (some 500 MB) and leaves them there for another time.
set -eu
export LC_ALL=C
program=build/uniperceiver samples=1000000 lines=10000000 folder=
while [ $# -gt 0 ]; do
    case $1 in
    --help)
        sed -n '2,5s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --program) program=${2:?--program wants a file} && shift ;;
    --samples) samples=${2:?--samples wants a number} && shift ;;
    --lines) lines=${2:?--lines wants a number} && shift ;;
    *) folder=$1 ;;
    esac
    shift
done
: "${folder:?a folder is wanted (see --help)}"
program=$(realpath "$program")
mkdir -p "$folder" && cd "$folder"

list() { # list FILE COUNT
    [ -s "$1" ] || awk -v n="$2" 'BEGIN {
        print "text\tlabel"
        split("red green blue black white", colour); split("boat cat house tree", thing)
        for (i = 0; i < n; i++) print "a " colour[i % 5 + 1] " " thing[i % 4 + 1] " number " i % 9973 "\t" thing[i % 4 + 1]
    }' >"$1"
}
list samples.tsv "$samples"
list lines.tsv "$lines"
printf 'boat\ncat\nhouse\ntree\n' >classes.txt

configuration() { # configuration NAME STEPS: the smallest model, so that reading is most of the work
    cat <<END
name: $1
run: runs/$1
seed: 1
steps: $2
log_every: 100
checkpoint_every: 1000000
model: {preset: tiny, layers: 1, width: 32, heads: 2, image_size: 16, patch: 8, text_positions: 32, drop_path: 0}
optimizer: {lr: 1e-4, warmup: 1}
tasks:
  - {kind: text_classification, data: $1.tsv, text: text, target: label, classes: classes.txt, batch: 500}
END
}
configuration samples $((samples / 500)) >samples.yaml
configuration lines $((lines / 500)) >lines.yaml

first_step() { # seconds until one step of lines.yaml is done
    rm -rf runs/lines
    local from
    from=$(date +%s.%N)
    "$program" train lines.yaml --steps 1 --quiet || return 1
    echo "$from $(date +%s.%N)" | awk '{printf "%.2f", $2 - $1}'
}
memory() { # memory NAME: of the metrics, after a tenth and at the end, with what was read
    awk -v name="$1" -F'[:,]' '
        {for (i = 1; i < NF; i++) if ($i == "\"memory_mib\"") mib[NR] = $(i + 1)
         step = $2}
        END {tenth = int((NR + 9) / 10)
             printf "%s: %d samples read; memory at most %.1f MiB after a tenth of them, %.1f MiB at the end\n", name, step * 500, mib[tenth], mib[NR]}' "runs/$1/metrics.jsonl"
}

rm -f lines.tsv.index* samples.tsv.index*
make=$(first_step)
made=$(first_step)
echo "$lines lines ($(du -m lines.tsv | cut -f 1) MiB): first step done after $make s with the index to be made, $made s with the index made"
rm -rf runs/samples runs/lines
"$program" train samples.yaml --quiet
memory samples
"$program" train lines.yaml time_limit=60 --quiet 2>/dev/null || true # ends by its time limit
memory lines
