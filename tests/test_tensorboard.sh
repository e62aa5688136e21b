#!/usr/bin/env bash
# What a run writes for TensorBoard, read by TensorBoard's own reader: every number of metrics.jsonl is there, also
# after the run was stopped and resumed. UP_BINARY: the program; UP_PYTHON: a Python with tensorboard, else python3.
set -euo pipefail
python=${UP_PYTHON:-python3}
if ! "$python" -c 'import tensorboard' 2>/dev/null; then
    echo "skipped: no tensorboard for $python (UP_PYTHON names another one)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'text\tword\nwhat remains of a fire\tash\none who bakes bread\tbaker\nnot wet\tdry\n' >"$work/texts.tsv"
cat >"$work/run.yaml" <<END
run: $work/run
steps: 12
log_every: 2
checkpoint_every: 5
validate_every: 4
best: text_retrieval/R@1 input to text
model: {preset: tiny, layers: 1, width: 16, heads: 2, ffn: 32, text_positions: 16, image_size: 16, patch: 8, frames: 2}
tasks:
  - {kind: mlm, data: $work/texts.tsv, batch: 3, text_limit: 12, mask: 0.5}
  - {kind: text_retrieval, data: $work/texts.tsv, target: word, batch: 3, text_limit: 12}
evaluations:
  - {kind: text_retrieval, data: $work/texts.tsv, target: word, text_limit: 12}
END
"$UP_BINARY" train "$work/run.yaml" --quiet steps=9
# what is behind the checkpoint that the run goes on from must be forgotten
rm -r "$work/run/checkpoint-00000009"
"$UP_BINARY" train "$work/run.yaml" --quiet --resume 2>/dev/null

"$python" - "$work/run" <<'END'
import json, math, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

reader = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
reader.Reload()
got = {(tag, e.step): e.value for tag in reader.Tags()["scalars"] for e in reader.Scalars(tag)}


def numbers(value, tag=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{tag}/{key}" if tag else key)
    elif isinstance(value, (int, float)) and tag != "step":
        yield tag, value


want = {}
for line in open(sys.argv[1] + "/metrics.jsonl"):
    line = json.loads(line)
    want.update({(tag, line["step"]): value for tag, value in numbers(line)})
assert want.keys() == got.keys(), sorted(want.keys() ^ got.keys())[:5]
for key, value in want.items():
    assert math.isclose(got[key], value, rel_tol=2**-23, abs_tol=1e-37), (key, got[key], value)
assert any(tag.startswith("tasks/mlm/loss") for tag, _ in want)
assert ("validation/text_retrieval/R@1 input to text", 8) in want, sorted(want)
print(f"{len(want)} scalars as in metrics.jsonl")
END
