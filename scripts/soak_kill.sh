#!/usr/bin/env bash
# Kills a training run again and again, at random moments and while it writes checkpoints, and starts it again
# with --resume. Every restart must load the newest whole checkpoint, no more steps may be lost than lie behind
# it, and in the end weights and metrics must be those of a run that nobody disturbed, bit for bit.
# On two cores of an AMD EPYC, shared with other work: "seed 1: 50 kills, 47 of them with a checkpoint half written, at most
# 10 logged steps behind the last checkpoint (one every 5); weights, average and metrics are those of the undisturbed run".
#
#     scripts/soak_kill.sh [--kills N] [--seed N] [PROGRAM]        default: 50 kills, build/uniperceiver
set -euo pipefail

kills=50 seed=$RANDOM steps_a_kill=40 every=5
while [ $# -gt 0 ]; do
    case $1 in
    --kills) kills=$2 && shift 2 ;;
    --seed) seed=$2 && shift 2 ;;
    *) break ;;
    esac
done
program=${1:-$(dirname "$0")/../build/uniperceiver}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RANDOM=$seed

fail() {
    echo "soak_kill.sh: seed $seed: $*" >&2
    exit 1
}

printf 'text\tword\n' >"$work/texts.tsv"
for i in $(seq 40); do printf 'a thing that is number %d of many\tword %d\n' "$i" "$i" >>"$work/texts.tsv"; done
cat >"$work/run.yaml" <<END
run: $work/run
seed: 5
steps: $((kills * steps_a_kill))
log_every: 3
checkpoint_every: $every
keep_every: $((every * 20))
ema: 0.99
model: {preset: tiny, layers: 2, width: 16, heads: 2, ffn: 64, text_positions: 16, image_size: 16, patch: 8, frames: 2}
tasks:
  - {kind: mlm, data: $work/texts.tsv, batch: 16, text_limit: 12, mask: 0.3}
  - {kind: text_retrieval, data: $work/texts.tsv, target: word, batch: 16, text_limit: 12}
END

train() { # RUN FLAGS...: called in a subshell, which becomes the program
    exec "$program" train "$work/run.yaml" "run=$work/$1" --quiet --threads 1 "${@:2}" 2>>"$work/said"
}

newest() { # the step of the newest whole checkpoint, 0: none
    local last
    last=$(find "$work/run" -maxdepth 1 -regex '.*/checkpoint-[0-9]+' 2>/dev/null | sort | tail -n 1)
    echo $((10#0${last##*-}))
}

logged() { # the step of the last line
    local last
    last=$(tail -n 1 "$work/run/metrics.jsonl" 2>/dev/null | grep -o '"step":[0-9]*' || true)
    echo $((10#0${last##*:}))
}

writing() { compgen -G "$work/run/checkpoint-*.partial" >/dev/null; }

# Waits for a random moment, or, every second time, for one at which a checkpoint is half written.
wait_for_moment() { # PID
    sleep "0.$((100 + RANDOM % 500))"
    if [ $((killed % 2)) = 0 ]; then return; fi
    while kill -0 "$1" 2>/dev/null && ! writing; do :; done
    sleep "0.00$((RANDOM % 10))"
}

(train whole) || fail "the undisturbed run failed"
killed=0 in_writing=0 lost=0
while [ "$killed" -lt "$kills" ]; do
    train run --resume &
    pid=$!
    wait_for_moment $pid
    kill -KILL $pid 2>/dev/null || true
    code=0
    wait $pid 2>/dev/null || code=$?
    if [ $code != 137 ]; then
        if [ $code = 0 ]; then break; fi
        fail "a restart ended with code $code: $(tail -n 1 "$work/said")"
    fi
    killed=$((killed + 1))
    if writing; then in_writing=$((in_writing + 1)); fi
    behind=$(($(logged) - $(newest)))
    if [ $behind -gt $((2 * every)) ]; then fail "$behind steps lie behind the last checkpoint"; fi
    if [ $behind -gt $lost ]; then lost=$behind; fi
done
[ "$killed" -gt 0 ] || fail "the run was over before the first kill"
(train run --resume) || fail "the last restart failed: $(tail -n 1 "$work/said")"

if grep -q 'trying the checkpoint before it' "$work/said"; then fail "a checkpoint did not load"; fi
if compgen -G "$work/run/*.broken" >/dev/null; then fail "a checkpoint was broken"; fi
timed='"(seconds|samples_per_second|tokens_per_second|data_wait_seconds|memory_mib|gflops)":[^,]*,'
for run in whole run; do sed -E "s/$timed//g" "$work/$run/metrics.jsonl" >"$work/$run.lines"; done
cmp "$work/whole.lines" "$work/run.lines" || fail "the metrics differ"
for file in model model-ema; do
    cmp "$work/whole/$file.safetensors" "$work/run/$file.safetensors" || fail "$file differs"
done
echo "soak_kill.sh: seed $seed: $killed kills, $in_writing of them with a checkpoint half written, at most $lost logged" \
    "steps behind the last checkpoint (one every $every); weights, average and metrics are those of the undisturbed run"
