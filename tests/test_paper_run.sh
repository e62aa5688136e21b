#!/bin/bash
# test_paper_run.sh - scripts/paper_run.sh for 400 iterations: every one of the 26 rows of configs/pretrain-base.yaml opens
# its data, is drawn and trains, as often as its weight wants. Whether each row learns takes ten times as many iterations
# (docs/pretraining.md). UP_BINARY and UP_SOURCE_DIR name the program and the source tree.
set -u
export LC_ALL=C
. "$UP_SOURCE_DIR/tests/checks.sh"
for tool in python3 ffmpeg; do
    type -P $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

out=$("$UP_SOURCE_DIR/scripts/paper_run.sh" "$UP_BINARY" "$work/run" 400 2>&1)
if grep -q 'built without' <<<"$out"; then
    echo "skipped: $out"
    exit 77
fi
has '^iterations: 400; rows: 26, of them drawn: 26; '
has '^chi-square against the weights: .* p = 0\.[0-9]*[1-9]'
count "nothing is passed over" test ! -s "$work/run/run/bad-samples.jsonl"
out=$(cat "$work/run/train.log")
has '400 steps, 400 of them in this process in .*; 0 skipped'

# The check sees what it is for: iterations that follow other weights, a loss that rises.
check() { # check CHANGE: its output over metrics that a line of Python has changed
    out=$(python3 - "$work/run/run/metrics.jsonl" "$work/changed.jsonl" <<END
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
$1
with open(sys.argv[2], "w") as f:
    f.writelines(json.dumps(line) + "\n" for line in lines)
END
    python3 "$UP_SOURCE_DIR/scripts/paper_check.py" "$UP_SOURCE_DIR/configs/pretrain-base.yaml" "$work/changed.jsonl")
    count "$1: is refused" test $? -eq 1
}
check 'lines += [line for line in lines if "moments" in line["tasks"]] * 20'
has ' p = 0\.000$'
check 'lines = [line for line in lines if "cap sbu" not in line["tasks"]]'
has 'of them drawn: 25; '
check 'lines.reverse()'
has 'loss falls: [0-9]$'
finish
