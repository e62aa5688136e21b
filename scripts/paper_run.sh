#!/bin/bash
# configs/pretrain-base.yaml with all its 26 rows, scaled down to minutes on two cores:
#
#     scripts/paper_run.sh build/uniperceiver FOLDER [STEPS] [KEY=VALUE...]
#
# makes tiny data (scripts/paper_data.py), trains (FOLDER/train.log), and checks what the run wrote (scripts/paper_check.py).
# FOLDER is new. What changed, and what came out: docs/pretraining.md.
set -euo pipefail
program=$(realpath "$1")
folder=$2
steps=${3:-3000}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder/configs"
cp "$here/configs/pretrain-base.yaml" "$folder/configs/"
python3 "$here/scripts/paper_data.py" "$folder/data"

# The sizes; how a small model begins and learns is docs/your-own-data.md's. Weights, augmentation, smoothing and loss
# weights stay as they are.
settings=("run=$folder/run" "steps=$steps" log_every=1 "checkpoint_every=$steps" workers=1 vocabulary=corpus
    model.preset=tiny model.frames=8 model.text_positions=32 model.drop_path=0
    model.image_time=true model.shared_norm=true model.patch_position_init=1.0 model.branch_init=0.354
    optimizer.lr=6e-4 "optimizer.warmup=$((steps / 20))" optimizer.clip=0.2)
for row in imagenet21k:32 moments:8 "mlm bookswiki:16" "mlm paq:32" "ar bookswiki:16" "ar paq:32" "ret paq:32"; do
    settings+=("tasks.${row%:*}.batch=${row#*:}")
done
for row in kinetics700 moments; do
    settings+=("tasks.$row.resize=32" "tasks.$row.resize_most=40" "tasks.$row.stride=2")
done
for row in "mlm bookswiki" "ar bookswiki"; do
    settings+=("tasks.$row.text_limit=32")
done
for data in yfcc cc12m cc3m vg coco sbu; do
    for task in mlm cap ret; do
        settings+=("tasks.$task $data.batch=16" "tasks.$task $data.resize=32")
        case $data in vg | coco) continue ;; esac
        settings+=("tasks.$task $data.data=../data/$data/{00000..00001}.tar")
    done
done
"$program" train "$folder/configs/pretrain-base.yaml" "${settings[@]}" "${@:4}" >"$folder/train.log" 2>&1 ||
    { tail -n 3 "$folder/train.log"; exit 1; }
python3 "$here/scripts/paper_check.py" "$folder/configs/pretrain-base.yaml" "$folder/run/metrics.jsonl"
