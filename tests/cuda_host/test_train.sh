#!/bin/bash
# test_train.sh - `train --backend cuda` by the whole program on the host executor: the losses are those of the reference,
# and a run that goes on from a checkpoint ends with the same bits. UP_BINARY and UP_SOURCE_DIR name program and source tree.
set -u
export LC_ALL=C
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

expect() { # expect WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "$what: passed"
    else
        echo "$what: FAILED"
        failures=$((failures + 1))
    fi
}
train() { # train FOLDER BACKEND PRECISION FLAGS...
    "$up" train train.yaml run="$1" precision="$3" --backend "$2" --quiet "${@:4}"
}
resumed() { # resumed PRECISION: step 3 of the run of that name again in another folder's name, and on to the end
    mkdir once && mv "cuda-$1" once/whole && mkdir "cuda-$1" &&
        cp -r once/whole/checkpoint-00000003 once/whole/metrics.jsonl "cuda-$1" &&
        train "cuda-$1" cuda "$1" --resume && cmp once/whole/model.safetensors "cuda-$1/model.safetensors" &&
        cmp once/whole/checkpoint-00000006/model.safetensors "cuda-$1/checkpoint-00000006/model.safetensors" && rm -r once
}
losses() { # losses FOLDER: a line each: step, task, loss
    sed -n '/"lr":/p' "$1/metrics.jsonl" | awk -F'[{}]' '{
        step = $2
        sub(/,.*/, "", step)
        for (i = 3; i < NF; i++)
            if ($i ~ /"loss":/) {
                task = $(i - 1)
                loss = $i
                sub(/:$/, "", task)
                sub(/^,/, "", task)
                sub(/.*"loss":/, "", loss)
                print step, task, loss
            }
    }'
}
# close TOLERANCE REF CUDA: every loss of every step; prints the largest relative difference.
close() {
    paste -d' ' <(losses "$2") <(losses "$3") | awk -v tolerance="$1" '
        NF != 6 || $1 != $4 || $2 != $5 { print "other steps or tasks: " $0; bad = 1 }
        { apart = ($3 - $6) / $3; if (apart < 0) apart = -apart; if (apart > worst) worst = apart }
        END { print NR " losses, at most " worst " apart"; exit bad || NR < 12 || !(worst <= tolerance) }'
}

{
    printf 'image\tlabel\tname\n'
    printf "$golden/image/%s\t%s\t%s\n" jpeg_420.jpg photograph "a small photograph" png_rgb8.png drawing "a drawing in red" \
        png_grey8.png drawing "a grey drawing" png_palette8.png chart "a chart of few colours"
} >pictures.tsv
{
    printf 'text\tword\n'
    printf '%s\t%s\n' "a large cat that lives in the mountains" "snow leopard" "what remains of a fire" ash "not wet" dry \
        "the colour of grass" green
} >texts.tsv
cat >train.yaml <<'END'
run: run
seed: 11
steps: 6
accumulate: 2
log_every: 1
checkpoint_every: 3
workers: 2
model: {preset: tiny, layers: 2, width: 16, heads: 2, ffn: 64, text_positions: 16, image_size: 16, image_resize: 20,
        patch: 8, drop_path: 0.1}
optimizer: {lr: 2e-3, warmup: 3, loss_scale: 256}
tasks:
  - {kind: image_classification, data: pictures.tsv, target: label, batch: 4, text_limit: 12}
  - {kind: mlm, data: texts.tsv, batch: 4, text_limit: 12, mask: 0.3}
  - {kind: caption, data: pictures.tsv, text: name, batch: 4, text_limit: 12}
  - {kind: text_retrieval, data: texts.tsv, target: word, batch: 4, text_limit: 12}
END

for pair in f32:1e-4 bf16:2e-2 f16:2e-3; do
    type=${pair%:*}
    expect "ref in $type" train "ref-$type" ref "$type"
    expect "cuda in $type" train "cuda-$type" cuda "$type"
    expect "losses in $type" close "${pair#*:}" "ref-$type" "cuda-$type"
    expect "resumed in $type" resumed "$type"
done
exit $((failures > 0))
