#!/bin/bash
# test_tasks.sh - configs/tasks as they stand, over sample folders in the layouts in which the datasets are published:
# each evaluates an untuned model and tunes it, and its numbers stand in the paper's tables. Then an evaluation that is
# killed: the next one goes on from there and gives the same numbers. UP_BINARY and UP_SOURCE_DIR name the program and
# the source tree.
set -u
export LC_ALL=C
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"
mkdir -p configs && cp -r "$UP_SOURCE_DIR/configs/tasks" configs/

jpeg() { # jpeg FILE...: pictures, in turn of two kinds
    local file i=0
    for file in "$@"; do
        mkdir -p "$(dirname "$file")"
        cp "$golden/image/$([ $((i++ % 2)) = 0 ] && echo jpeg_420 || echo jpeg_444).jpg" "$file"
    done
}
clip() { # clip SOURCE FILE
    mkdir -p "$(dirname "$2")" && cp "$golden/video/$1" "$2"
}

# --- ImageNet-1k ---
jpeg data/imagenet/{train,val}/{n01440764,n01443537}/ILSVRC2012_0000000{1,2}.JPEG
printf 'n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n' >data/imagenet/LOC_synset_mapping.txt

# --- Kinetics-400 ---
for split in train validate; do
    clip h264.mp4 "data/kinetics400/$split/air drumming/abcdefghijk_000020_000030.mp4"
    clip short.mp4 "data/kinetics400/$split/zumba/bcdefghijkl_000005_000015.mp4"
    printf 'label,youtube_id,time_start,time_end,split\nair drumming,abcdefghijk,20,30,%s\nzumba,bcdefghijkl,5,15,%s\n' \
        $split $split >data/kinetics400/$split.csv
done

# --- COCO and Flickr30k by Karpathy ---
sentences='"sentences": [{"raw": "A dog runs."}, {"raw": "a brown dog"}, {"raw": "dog"}, {"raw": "an animal"}, {"raw": "it runs"}]'
coco='' flickr=''
for i in 1 2 3 4; do
    split=$([ $i -lt 3 ] && echo train || echo test)
    jpeg "data/coco/val2014/COCO_val2014_00000000000$i.jpg"
    coco+=",{\"filepath\": \"val2014\", \"filename\": \"COCO_val2014_00000000000$i.jpg\", \"cocoid\": $i, \"split\": \"$split\", ${sentences/A dog/Dog $i}}"
    jpeg data/flickr30k/images/100$i.jpg
    flickr+=",{\"filename\": \"100$i.jpg\", \"imgid\": $i, \"split\": \"$split\", ${sentences/A dog/Dog $i}}"
done
echo "{\"dataset\": \"coco\", \"images\": [${coco#,}]}" >data/coco/dataset_coco.json
echo "{\"dataset\": \"flickr30k\", \"images\": [${flickr#,}]}" >data/flickr30k/dataset_flickr30k.json

# --- MSVD ---
mkdir -p data/msvd
for name in -4wsuPCjDBc_5_15 04Gt01vatkk_248_265 0lh_UWF9ZP4_21_26 1dfR0dxG7S8_9_14; do
    clip mjpeg.avi data/msvd/YouTubeClips/$name.avi
    printf '%s a squirrel eats %s\n%s an animal on the ground\n' $name ${name:1:2} $name
done >data/msvd/AllVideoDescriptions.txt
printf '%s\n' -4wsuPCjDBc_5_15 04Gt01vatkk_248_265 >data/msvd/train_list.txt
printf '%s\r\n' 0lh_UWF9ZP4_21_26 1dfR0dxG7S8_9_14 >data/msvd/test_list.txt

# --- VQA v2 ---
mkdir data/vqa && printf 'yes\nno\n2\nred\ndog\ncat\n' >data/vqa/answers.txt
people() { # people ANSWER: ten, of whom three say something else
    local i list=''
    for i in 1 2 3 4 5 6 7 8 9 10; do list+=", {\"answer\": \"$([ $i -gt 3 ] && echo "$1" || echo else)\", \"answer_id\": $i}"; done
    echo "[${list:2}]"
}
for split in train2014 val2014; do
    jpeg data/coco/$split/COCO_${split}_000000000042.jpg
    echo '{"questions": [
        {"image_id": 42, "question": "Is it red?", "question_id": 420}, {"image_id": 42, "question": "How many?", "question_id": 421},
        {"image_id": 42, "question": "What is it", "question_id": 422}, {"image_id": 42, "question": "Why?", "question_id": 423}]}' \
        >data/vqa/v2_OpenEnded_mscoco_${split}_questions.json
    annotations=''
    while read -r id type answer; do
        annotations+=", {\"question_id\": $id, \"image_id\": 42, \"answer_type\": \"$type\", \"multiple_choice_answer\": \"$answer\", \"answers\": $(people "$answer")}"
    done <<<$'420 yes/no no\n421 number 2\n422 other dog\n423 other unsaid'
    echo "{\"annotations\": [${annotations:2}]}" >data/vqa/v2_mscoco_${split}_annotations.json
done

# --- GLUE ---
glue() { # glue TASK HEADER ROW...: the same rows to train and test
    local task=$1 set
    mkdir -p "data/glue/$task"
    shift
    for set in train dev dev_matched dev_mismatched; do printf '%b\n' "$@" >"data/glue/$task/$set.tsv"; done
}
glue MNLI 'index\tpromptID\tsentence1_binary_parse\tsentence1\tsentence2\tlabel1\tgold_label' \
    '0\t1\t( a )\tHe sleeps.\tHe is awake.\tx\tcontradiction' '1\t2\t( b )\tA cat\tAn animal\tx\tentailment' '2\t3\t( c )\tA cat\tIt is old\tx\tneutral'
glue QNLI 'index\tquestion\tsentence\tlabel' '0\tWho is it?\tIt is he.\tentailment' '1\tWhen?\tIt is he.\tnot_entailment'
glue QQP 'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate' '0\t1\t2\tHow old?\tWhat age?\t1' '1\t3\t4\tWhy?\tWhen?\t0'
glue RTE 'index\tsentence1\tsentence2\tlabel' '0\tIt rains.\tIt is wet.\tentailment' '1\tIt rains.\tIt is dry.\tnot_entailment'
glue SST-2 'sentence\tlabel' 'a fine film \t1' 'a mess \t0'
glue MRPC 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String' '1\t10\t11\tHe said so.\tSo he said.' '0\t12\t13\tHe said so.\tShe left.'
glue CoLA 'gj04\t1\t\tOur friends left.' 'gj04\t0\t*\tOur left friends.'

# --- all of them: untuned, tuned with prompts, fine-tuned ---
cat >model.yaml <<'END'
run: runs/base
steps: 1
vocabulary: whole
model: {preset: tiny, layers: 1, width: 32, heads: 2, ffn: 64, text_positions: 256, image_size: 32, image_resize: 36,
        video_resize: 32, patch: 16, frames: 8, video_stride: 2}
tasks:
  - {kind: image_classification, data: data/imagenet/train, format: imagenet}
END
"$up" train model.yaml --quiet >/dev/null 2>log || cat log
untuned=() tuned=()
for file in configs/tasks/*.yaml; do
    name=$(basename "$file" .yaml)
    out=$("$up" eval "$file" --model runs/base/model.safetensors --json "none-$name.json" 2>&1)
    is "$name: $out" $? 0
    untuned+=("none-$name.json")
    out=$("$up" train "$file" run="runs/$name" init_from=runs/base/model.safetensors steps=2 workers=1 optimizer.warmup=1 tasks.0.batch=2 tasks.0.fraction=1 2>&1)
    is "$name, tuned: ${out: -300}" $? 0
    out=$("$up" eval "$file" run="runs/$name" init_from=runs/base/model.safetensors tasks.0.fraction=1 2>&1)
    is "$name, tuned and evaluated: ${out: -300}" $? 0
    tuned+=("runs/$name")
done
score() { # score FILE TASK METRIC FIELD
    python3 -c 'import json, sys
print(*[x[sys.argv[4]] for x in json.load(open(sys.argv[1])) if x["task"] == sys.argv[2] and x["metric"] == sys.argv[3]])' "$@"
}
is 'COCO: pictures of the test' "$(score none-coco-retrieval.json 'coco retrieval' 'R@1 input to text' n)" 2
is 'COCO: captions of the test' "$(score none-coco-retrieval.json 'coco retrieval' 'R@1 text to input' n)" 10
is 'MSVD: clips of the test' "$(score none-msvd-retrieval.json 'msvd retrieval' 'R@5 input to text' n)" 2
is 'MSVD: captions of the test' "$(score none-msvd-retrieval.json 'msvd retrieval' 'R@5 text to input' n)" 4
is 'VQA: all questions' "$(score none-vqa-v2.json 'vqa v2' 'VQA accuracy' n)" 4
is 'VQA: of numbers' "$(score none-vqa-v2.json 'vqa v2' 'VQA accuracy, number' n)" 1
is 'MNLI: both' "$(score none-mnli.json mnli accuracy n) $(score none-mnli.json 'mnli mismatched' accuracy n)" '3 3'
is 'CoLA has a correlation' "$(score none-cola.json cola 'Matthews correlation' n)" 2
is 'a tuned number says what it is' "$(score runs/rte/metrics.json rte accuracy tune)" prompts
places=$("$up" tables --json "${untuned[@]}" | python3 -c 'import json, sys
missing = {c["evaluation"] + " " + c["metric"] for t in json.load(sys.stdin) for r in t["rows"] if (r["source"], r["setting"]) == ("here", "without tuning")
           for c, v in zip(t["columns"], r["values"]) if v is None}
print(sorted(missing))')
if test -d /usr/share/wordnet; then is 'every place of the tables is filled' "$places" '[]'; fi

# --- features of many texts are kept in the folder of --cache, for this model alone ---
awk 'BEGIN { print "text\tword"; for (i = 0; i < 1200; i++) printf "film %d\tanswer %d\n", i, i * 7 }' >many.tsv
cat >many.yaml <<'END'
run: runs/many
steps: 1
tasks:
  - {kind: text_retrieval, data: many.tsv, target: word}
evaluations:
  - {name: many, kind: text_retrieval, data: many.tsv, target: word}
END
keeping() { # keeping NAME MODEL
    "$up" eval many.yaml --model "$2" --cache features --quiet --json "$1.json" >/dev/null 2>&1
}
targets() { # tokens of targets that were encoded
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[0]["tokens"]["targets"])' "$1.json"
}
keeping first runs/base/model.safetensors && keeping second runs/base/model.safetensors
count 'a file of features' test "$(find features -name '*.features' | wc -l)" -eq 1
count 'they were encoded once' test "$(targets first)" -gt 3000 -a "$(targets second)" -eq 0
is 'the same numbers' "$(sed 's/"targets": .*//' second.json | cksum)" "$(sed 's/"targets": .*//' first.json | cksum)"
"$up" train model.yaml run=runs/other seed=9 --quiet >/dev/null 2>&1
keeping third runs/other/model.safetensors
count 'another model has its own' test "$(targets third)" -eq "$(targets first)"

# --- an evaluation that is killed ---
awk 'BEGIN {
    print "sentence\tlabel"
    for (i = 0; i < 60000; i++) printf "film %d is as good as film %d and no better %d\t%d\n", i, i * 7, i % 97, i % 2
}' >data/glue/SST-2/dev.tsv
sst=(eval configs/tasks/sst-2.yaml --model runs/base/model.safetensors --threads 1)
"$up" "${sst[@]}" --quiet --json whole.json >whole.json.txt 2>&1
count 'no parts are left' test ! -e whole.json.parts
"$up" "${sst[@]}" --quiet --json broken.json >/dev/null 2>&1 &
victim=$!
for i in $(seq 1000); do
    size=$(cat broken.json.parts/*.part 2>/dev/null | wc -c)
    test "$size" -gt 20000 && break
    sleep 0.01
done
kill -KILL $victim
wait $victim 2>/dev/null
count 'it was killed before its end' test ! -e broken.json
kept=$(cat broken.json.parts/*.part | wc -c)
count 'something was kept' test "$kept" -gt 20000
"$up" "${sst[@]}" --json broken.json >broken.json.txt 2>log
count 'it went on' grep -q 'goes on behind row [1-9]' log
count 'the same numbers' cmp whole.json broken.json
count 'the same table' cmp whole.json.txt broken.json.txt
count 'the parts are gone' test ! -e broken.json.parts
finish
