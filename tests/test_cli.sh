#!/bin/bash
# test_cli.sh - the program from outside: what each command prints, its exit code, and one line for every bad input.
# UP_BINARY, UP_EXAMPLE and UP_SOURCE_DIR name the program, the example program and the source tree.
set -u
export LC_ALL=C
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"

ok() { # ok ARGS...: exit 0 and nothing on stderr; stdout is kept in $out
    out=$("$up" "$@" 2>errors)
    is "$*: exit" $? 0
    is "$*: stderr" "$(cat errors)" ""
}
fails() { # fails CODE PATTERN ARGS...: this exit code, and one line on stderr that matches
    local code=$1 pattern=$2
    shift 2
    "$up" "$@" >/dev/null 2>errors </dev/null
    is "$*: exit" $? "$code"
    is "$*: lines on stderr" "$(wc -l <errors)" 1
    count "$*: $(cat errors)" grep -q -- "^uniperceiver: .*$pattern" errors
}
row() { # row FILE N: features of row N (from 0) of a [n, 128] array, as a checksum
    tail -c +129 "$1" | tail -c +$((512 * $2 + 1)) | head -c 512 | cksum
}

# --- the program itself ---
ok --version && has '^uniperceiver [0-9]*\.[0-9]*\.[0-9]*$'
ok --help && has 'tokenize' && has 'caption'
for command in tokenize detokenize mask params init import export info encode classify retrieve index search caption vqa serve check train eval report score tables; do
    ok $command --help
    has "^uniperceiver $command"
done
fails 2 'no command'
fails 2 'unknown command "fly"' fly
fails 2 'unknown command "enocde"; did you mean encode?' enocde
fails 2 'unknown flag --thread; did you mean --threads?' encode --thread 2
ok -h && whole=$out && ok help && is help "$out" "$whole"
ok help encode && whole=$out && ok encode -h && is 'help COMMAND' "$out" "$whole"
fails 2 'unknown command "fly"' help fly
fails 2 'unknown flag --fly (see uniperceiver mask --help)' mask --fly
fails 2 '--words wants N' mask --prefix 1 --words
fails 2 '--words N is missing' mask --prefix 1
fails 2 '"two" is not a whole number' mask --prefix two --words 1
fails 2 'not a whole number from 0' mask --prefix -1 --words 1
fails 2 'unexpected argument "more"' mask --prefix 1 --words 1 more
fails 2 '--json takes no value' params --preset tiny --json=yes

# --- score ---
captions=$golden/captions
ok score --metric bleu,rouge,cider_d "$captions/candidates.json" "$captions/references.json"
has '^BLEU-4  *0.722983$' && has '^ROUGE-L  *0.854865$' && has '^CIDEr-D  *3.725461$'
ok score --metric f1,matthews --json "$captions/labels_candidates.tsv" "$captions/labels_references.tsv"
has '"F1": 0.82388' && has '"Matthews correlation": 0.60213'
printf "A man isn't here.\n" >line && ok score --words line && is words "$out" "a man is n't here"
printf 'image_id\tcaption\na\tA dog runs!\n' >said && printf 'image_id\tcaption\na\ta dog runs\na\tone cat\n' >true
ok score --metric bleu said true && has '^BLEU-2  *1.000000$'
fails 2 '1 files; wanted CANDIDATES and REFERENCES' score said
fails 1 'fly: no metric' score --metric fly said true
fails 1 'wordnet-base' score --metric meteor --wordnet /nowhere said true

# --- tables: made-up results stand in their places, in percent, the last of several; what is missing is "-" ---
number() { # number TASK METRIC TUNE FRACTION VALUE
    printf '{"task": "%s", "trained": true, "tune": "%s", "fraction": %s, "metric": "%s", "value": %s}' "$1" "$3" "$4" "$2" "$5"
}
mkdir results && echo "[$(number imagenet-1k accuracy none 1 0.5), $(number imagenet-1k accuracy prompts 0.01 0.6123),
    $(number mnli accuracy all 1 0.25), $(number 'coco retrieval' 'R@5 text to input' prompts 0.1 0.999)]" >results/metrics.json
echo "[$(number imagenet-1k accuracy none 1 0.511), $(number kinetics-400 accuracy head 0.01 0.7)]" >more.json
ok tables results more.json
count 'seven tables' test "$(grep -c '^Table [2-8]\. ' <<<"$out")" -eq 7
count 'a row of ours for each setting' test "$(grep -c ' here ' <<<"$out")" -eq 42
has '^without tuning  *paper  *78.0  *73.5$' && has '^without tuning  *released  *79.2  *74.5$'
has '^without tuning  *here  *51.1  *-$' && has '^prompts, 1%  *here  *61.2  *-$'
has '^fine-tuned, 100%  *here  *25.0  *-  *-  *-  *-  *-$'
has '^prompts, 10%  *here  *-  *-  *-  *-  *-  *-  *-  *-  *-  *-  *99.9  *-$'
ok tables --markdown results && has '^| without tuning | here | 50.0 | - |$' && has '^|---|---|---|---|$'
ok tables --json results
is 'a table as JSON' "$(python3 -c 'import json, sys
t = json.load(sys.stdin)
print(len(t), [r["values"] for r in t[0]["rows"] if r["source"] == "here"][:2], t[1]["columns"][10]["metric"])' <<<"$out")" \
    '7 [[50.0, None], [None, None]] R@5 text to input'
ok tables && has '^without tuning  *here  *-  *-$'
fails 1 'no such file\|cannot open\|No such file' tables /nowhere.json
echo '{}' >odd.json && fails 1 'is no list of numbers' tables odd.json
fails 2 'exclude each other' tables --json --markdown

# --- tokenize, detokenize ---
ok tokenize 'hello world' 'a photo of a cat' && is tokenize "$out" $'3306 1002\n320 1125 539 320 2368'
is 'tokenize lines' "$(printf 'hello world\n\na photo' | "$up" tokenize)" $'3306 1002\n\n320 1125'
ok tokenize -- --help && is 'tokenize --' "$out" "$("$up" tokenize < <(echo --help))"
ok detokenize '3306 1002' && is detokenize "$out" 'hello world'
is 'detokenize lines' "$(printf '320 1125 49407\n' | "$up" detokenize)" 'a photo <|endoftext|>'
is 'any bytes' "$(printf 'caf\xe9\xff\n' | "$up" tokenize | wc -l)" 1
fails 1 'wanted whole numbers' detokenize '1 x'
fails 1 'no token 49411' detokenize 49411
fails 1 'no/vocab' tokenize --vocab no/vocab hi

# --- mask ---
ok mask --prefix 2 --words 2
is mask "$out" $'1 1 0 0 0 0\n1 1 0 0 0 0\n1 1 1 0 0 0\n1 1 1 1 0 0\n1 1 0 0 1 0\n1 1 1 0 0 1'
ok mask --prefix=1 --words=0 && is 'mask of a prefix' "$out" 1

# --- params: Table 9 of the paper ---
ok params --preset base --prompt-tuning --classes 1000
is 'Table 9' "$(tr -s ' ' <<<"$out")" $'<SPE> 768\nlayer norm 41,472\nprompt 184,320\nlinear head 768,000\ntotal 994,560\nnot counted 1,001\n(Table 9 leaves out the linear head'\''s bias and alpha)'
ok params --preset base --prompt-tuning --classes 1000 --json && has '"layer norm": 41472' && has '"total": 994560'
has 'not counted": 1001'
ok params --preset base --prompt-tuning && has '^total *226,560$' && is 'without a head' "$(wc -l <<<"$out")" 5
ok params --preset tiny && has '^total *7,154,696$'
fails 1 'huge: unknown preset; there are base' params --preset huge

# --- init, info ---
ok init --preset tiny --seed 1 --out tiny.safetensors && is 'init prints' "$out" ''
ok init --preset tiny --seed 1 --out again.safetensors
count 'the same seed gives the same file' cmp -s tiny.safetensors again.safetensors
ok init --preset tiny --seed 2 --out again.safetensors
count 'another seed gives another file' test "$(cksum <tiny.safetensors)" != "$(cksum <again.safetensors)"
ok info tiny.safetensors && has '^preset: tiny$' && has '^values: 7154696$' && has '^target set: whole vocabulary$'
cat="$golden/image/jpeg_420.jpg" other="$golden/image/source.png" clip="$golden/video/full.mkv"
ok info "$cat" && is 'info of a picture' "$out" $'kind: picture\nsize: 37 x 29'
ok info "$clip" && has '^kind: video$' && has '^frames: [1-9]'
mkdir checkpoint && cp tiny.safetensors checkpoint/model.safetensors
ok info checkpoint && is 'info of a run' "$out" "$("$up" info tiny.safetensors)"
echo '{"step": ' >checkpoint/state.json
fails 1 'checkpoint/state.json: ' info checkpoint
mkdir -p classes/cat classes/dog && cp "$cat" classes/cat/1.jpg && cp "$other" classes/dog/1.png
ok info classes && has '^kind: dataset$' && has '^format: folder$' && has '^samples: 2$' && has '^classes: 2$'
mkdir nothing && fails 1 'nothing: no samples' info nothing
echo '{"step": 12, "updates": 11, "skipped": 1}' >checkpoint/state.json
ok info checkpoint && has '^step: 12$' && has '^preset: tiny$'
mkdir -p run/checkpoint-00000003 && cp -r checkpoint run/checkpoint-00000012
ok info run && has '^checkpoint: run/checkpoint-00000012$' && has '^step: 12$'
fails 2 'no FILE' info
printf 'text\tword\na cat\tcat\na dog\tdog\n' >two.tsv
ok info two.tsv && is 'info of a list' "$out" $'kind: dataset\nformat: tsv\nsamples: 2\n  text: a cat\n  word: cat'
fails 1 'no format "pdf"; there are tsv, csv' info --format pdf two.tsv
fails 2 'wanted one of --preset and --over' init --seed 1 --out x
fails 2 'wanted one of --preset and --over' init --preset tiny --over tiny.safetensors --seed 1 --out x
ok init --over tiny.safetensors --prompts 4 --classes 3 --seed 5 --out tuned.safetensors
ok info tuned.safetensors && has '^kind: overlay$' && has '^base: a model of weights [0-9a-f]*$' && has '^prompts: 4$'
count 'an overlay is small' test "$(stat -c %s tuned.safetensors)" -lt 100000
fails 1 'tuned.safetensors: is an overlay' encode --model tuned.safetensors --text hi --out x.npy
fails 1 'again.safetensors: is a whole model' encode --model tiny.safetensors --tuned again.safetensors --text hi --out x.npy
fails 1 'tuned.safetensors: belongs to another model' encode --model again.safetensors --tuned tuned.safetensors --text hi --out x.npy

# --- encode ---
m=(--model tiny.safetensors --threads 1)
r=(--model tiny.safetensors --backend ref) # adds in one order: the same bits in any batch
ok encode "${r[@]}" --text 'hello world' --image "$cat" --video "$clip" --ids '3306 1002 49407' --out four.npy
is 'four rows' "$(stat -c %s four.npy)" $((128 + 4 * 512))
is 'a text as ids' "$(row four.npy 3)" "$(row four.npy 0)"
ok encode "${r[@]}" --image "$cat" --out one.npy && is 'a row alone' "$(row one.npy 0)" "$(row four.npy 1)"
ok encode "${m[@]}" --image "$cat" --text hi --join --out joined.npy
is 'one row' "$(stat -c %s joined.npy)" $((128 + 512))
count '--join sees both parts' test "$(row joined.npy 0)" != "$(row one.npy 0)"
ok encode "${m[@]}" --image "$cat" --text hi --join --slot --out slot.npy
count '--slot reads another token' test "$(row joined.npy 0)" != "$(row slot.npy 0)"
ok encode "${r[@]}" --image "$cat" --side target --out target.npy
is 'no prompts, no sides' "$(row target.npy 0)" "$(row one.npy 0)"
{ printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 32, 32), }" && head -c 12288 /dev/zero; } >pixels.npy
{ printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 32, 32), }" && head -c 24576 /dev/zero; } >clip.npy
ok encode "${m[@]}" --image pixels.npy --video clip.npy --out pixels_out.npy
is 'pixels' "$(stat -c %s pixels_out.npy)" $((128 + 1024))
ok encode "${r[@]}" --tuned tuned.safetensors --image "$cat" --out tuned.npy
count 'an overlay is another model' test "$(row tuned.npy 0)" != "$(row one.npy 0)"
for type in f32 bf16 f16; do ok encode "${r[@]}" --precision $type --image "$cat" --out $type.npy; done
is 'f32 is the default' "$(row f32.npy 0)" "$(row one.npy 0)"
count 'bf16 rounds' test "$(row bf16.npy 0)" != "$(row f32.npy 0)" -a "$(row bf16.npy 0)" != "$(row f16.npy 0)"
fails 1 '--precision: "f8"; wanted f32, bf16 or f16' encode "${m[@]}" --precision f8 --image "$cat" --out x.npy
fails 1 '--precision: "f8"' eval config.yaml --precision f8
fails 1 'pixels.npy: wanted 32-bit floats of shape \[frames' encode "${m[@]}" --video pixels.npy --out x.npy
fails 1 'clip.npy: wanted 32-bit floats of shape \[3' encode "${m[@]}" --image clip.npy --out x.npy
fails 1 'four.npy' encode "${m[@]}" --image four.npy --out x.npy
fails 1 '--ids: "x"' encode "${m[@]}" --ids '1 x' --out x.npy
fails 1 'token id 60000' encode "${m[@]}" --ids 60000 --out x.npy
[ -e /dev/nvidiactl ] || fails 1 'backend cuda: ' encode "${m[@]}" --backend=cuda --text hi --out x.npy
fails 1 "'tpu' is unknown" encode "${m[@]}" --backend tpu --text hi --out x.npy
fails 2 '--side: "left"' encode "${m[@]}" --text hi --side left --out x.npy
fails 2 'no --text, --image' encode "${m[@]}" --out x.npy
fails 2 '--model FILE is missing' encode --text hi --out x.npy
count 'a failure writes nothing' test ! -e x.npy

# --- classify, retrieve, vqa ---
ok classify "${m[@]}" --image "$cat" --text hi --labels 'cat,dog,hi'
is 'a line a label' "$(wc -l <<<"$out")" 6
is 'a text is its own label' "$(grep '^hi' <<<"$out" | head -1 | cut -f 2)" hi
is 'probabilities' "$(grep '^hi' <<<"$out" | awk '{s += $3} END {printf "%.3f", s}')" 1.000
printf 'cat\n\ndog\n' >labels
ok classify "${m[@]}" --text 'a photo of a dog' --labels-file labels --template 'a photo of a {}' --top 1
is template "$(cut -f 2 <<<"$out")" dog
ok classify "${m[@]}" --text dog --labels cat,dog --template '{} or {}' && is 'all holes are filled' "$(wc -l <<<"$out")" 2
ok classify "${m[@]}" --precision bf16 --tuned tuned.safetensors --text dog --labels cat,dog && is 'labels over an overlay' "$(wc -l <<<"$out")" 2
ok classify "${m[@]}" --image "$cat" --labels cat,dog --json && has '"label": "cat"' && has '"probability": 0\.'
fails 1 'labels: the model has no classes of its own' classify "${m[@]}" --image "$cat"
fails 2 'wanted one of --labels and --labels-file' classify "${m[@]}" --image "$cat" --labels a,b --labels-file labels
fails 1 '"cat" stands there twice' classify "${m[@]}" --image "$cat" --labels 'cat, cat'
fails 1 'has no {} for the label' classify "${m[@]}" --image "$cat" --labels a,b --template 'a photo'
fails 1 'list: nothing in it' classify "${m[@]}" --image "$cat" --labels ,
ok retrieve "${m[@]}" --query-image "$cat" --among "$other" "$cat" "$clip" --top 2
is 'two candidates' "$(wc -l <<<"$out")" 2
is 'a picture finds itself' "$(head -1 <<<"$out" | cut -f 1)" "$cat"
ok retrieve "${m[@]}" --query-text dog --among-texts labels --json && has '"input": "dog"'
is 'a text finds itself' "$(grep -m 1 candidate <<<"$out" | tr -d ' ",')" candidate:dog
ok retrieve "${m[@]}" --query-video "$clip" --among-texts labels && is 'both texts' "$(wc -l <<<"$out")" 2
fails 2 '0 queries' retrieve "${m[@]}" --among "$cat"
fails 2 'wanted one of --among' retrieve "${m[@]}" --query-text hi
ok vqa "${m[@]}" --image "$cat" --question 'what is this' --answers 'cat,dog' && is answers "$(wc -l <<<"$out")" 2
is 'the mark is added' "$out" "$("$up" vqa "${m[@]}" --image "$cat" --question 'what is this?' --answers 'cat,dog')"
ok vqa "${m[@]}" --image "$cat" --question 'what is this' --answers 'cat,dog' --json && has '"input": "what is this?"'

# --- caption: with a target set of two words put into the metadata, so that it is quick ---
sed 's/"format":"uniperceiver"/"targets":"[320,49407]"/' tiny.safetensors >words.safetensors
ok info words.safetensors && has '^target set: restricted$'
for input in "--image $cat" "--video $clip" '--text hello' "--image $cat --text hello"; do
    # shellcheck disable=SC2086
    ok caption --model words.safetensors $input --beam 2 --max-words 3 --json
    cached=$out
    # shellcheck disable=SC2086
    ok caption --model words.safetensors $input --beam 2 --max-words 3 --json --uncached
    is "caption $input" "$(grep -v log <<<"$out")" "$(grep -v log <<<"$cached")"
done
ok caption --model words.safetensors --image "$cat" --max-words 2 && count "caption: '$out'" grep -qE '^(a|a a)?$' <<<"$out"
fails 2 'not a whole number from 1' caption --model words.safetensors --image "$cat" --beam 0
ok caption --model words.safetensors --image "$cat" --max-words 3 && one=$out
ok caption --model words.safetensors --image "$cat" --video "$clip" --image "$cat" --max-words 3
is 'a caption of each file' "$(cut -f 1 <<<"$out")" "$(printf '%s\n' "$cat" "$clip" "$cat")"
is 'each as it is alone' "$(cut -f 2 <<<"$out" | sed -n '1p;3p')" "$(printf '%s\n' "$one" "$one")"
ok caption --model words.safetensors --image "$cat" --image "$cat" --text a --max-words 3 --json && has '"input"'
ok caption --model words.safetensors --image "$cat" --image "$cat" --max-words 3 --join && is 'one of both' "$(wc -l <<<"$out")" 1
ok caption --model words.safetensors --image "$cat" --max-words 3 --min-words 2 && has '^a a\( a\)*$'
# the features of the whole vocabulary are kept, in the folder that is named
ok caption --model tiny.safetensors --text hi --max-words 2 --cache kept && count "kept" compgen -G "kept/tiny.safetensors.*.features" >/dev/null
ok caption --model tiny.safetensors --text hi --max-words 2 --cache none

# --- bad files: each one line that names the file, exit 1 ---
: >empty.jpg
: >empty.safetensors
head -c 400 "$golden/image/jpeg_444.jpg" >cut.jpg
echo 'not a picture' >text.jpg
printf '\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\xea\x60\x00\x00\xea\x60\x08\x02\x00\x00\x00\x0f\xb0\xe2\x15\x00\x00\x00\x09IDATdeadbeef' >huge.png
sed 's/layers\.0\.norm1\.bias/layers.0.norm1.bios/' tiny.safetensors >missing.safetensors
sed 's/ffn\\":512/ffn\\":256/' tiny.safetensors >shape.safetensors
sed 's/\[512,128\]/[513,128]/' tiny.safetensors >lie.safetensors
sed 's/"config"/"konfig"/' tiny.safetensors >plain.safetensors
head -c 100000 tiny.safetensors >short.safetensors
printf '\xff\xff\xff\xff\xff\xff\xff\x7f{}' >long.safetensors
for file in missing.jpg empty.jpg cut.jpg text.jpg huge.png; do
    fails 1 "$file" encode "${m[@]}" --image $file --out x.npy
done
fails 1 'huge.png: .*60000' encode "${m[@]}" --image huge.png --out x.npy
for file in missing.jpg empty.jpg cut.jpg text.jpg huge.png; do fails 1 "$file" info $file; done
for file in "$golden/video/sound.wav" "$golden/video/empty.avi" text.jpg empty.jpg missing.mp4; do
    fails 1 "$(basename $file)" encode "${m[@]}" --video "$file" --out x.npy
done
for file in missing empty lie plain shape short long; do
    fails 1 "$file.safetensors" encode --model $file.safetensors --text hi --out x.npy
done
fails 1 'missing.safetensors: layers.0.norm1.bias: is missing' caption --model missing.safetensors --text hi
fails 1 'shape.safetensors: .*has shape \[512.*wanted \[256' encode --model shape.safetensors --text hi --out x.npy
fails 1 'no "config" in its metadata' info plain.safetensors
fails 1 'none.safetensors' info none.safetensors
fails 1 'labels' classify "${m[@]}" --text hi --labels-file nolabels

# --- output that cannot be written ---
fails 1 'nowhere/x' init --preset tiny --seed 1 --out nowhere/x
fails 1 '/proc/x' encode "${m[@]}" --text hi --out /proc/x
fails 1 'is not a regular file' init --preset tiny --seed 1 --out /dev/full
fails 1 'is a folder' encode "${m[@]}" --text hi --out .
full_disk='mkdir full && mount -t tmpfs -o size=64k none full && '"'$up'"' init --preset tiny --seed 1 --out full/x 2>errors'
full_disk+='; code=$?; ls -A full >left; exit $code'
if unshare -rm true 2>/dev/null && unshare -rm sh -c 'mkdir t && mount -t tmpfs none t' 2>/dev/null; then
    unshare -rm sh -c "$full_disk"
    is 'full disk: exit' $? 1
    is 'full disk: nothing left' "$(cat left)" ''
else
    echo 'a tmpfs cannot be mounted here: a limit of the file size stands for the full disk'
    (trap '' XFSZ && ulimit -f 100 && exec "$up" init --preset tiny --seed 1 --out full 2>errors)
    is 'full disk: exit' $? 1
    is 'full disk: nothing left' "$(ls full* 2>/dev/null)" ''
fi
is 'full disk: one line' "$(wc -l <errors)" 1
"$up" tokenize hi >/dev/full 2>errors
is 'stdout on a full disk' "$?: $(cat errors)" '1: uniperceiver: standard output: cannot write: No space left on device'
"$up" mask --prefix 1 --words 1000 2>errors | head -1 >/dev/null
is 'stdout closed: exit' "${PIPESTATUS[0]}" 1
is 'stdout closed: one line' "$(wc -l <errors)" 1

# --- train and eval: their arguments; the work itself has tests of its own ---
fails 2 'no CONFIG' train
fails 2 '"steps"; wanted key=value' train config.yaml steps
fails 2 'unknown flag --model' train config.yaml --model tiny.safetensors
fails 1 'config.yaml' train config.yaml
fails 1 'config.yaml' eval config.yaml --model tiny.safetensors
echo 'flying: true' >config.yaml
fails 1 'config.yaml:1: flying: unknown key' train config.yaml --quiet

# --- a task is tuned on a model, and used by its own classes' names ---
printf 'text\tkind\nit barks\tdog\nit purrs\tcat\nit howls\tdog\n' >kinds.tsv
cat >tune.yaml <<'END'
{run: tuning, steps: 9, init_from: tiny.safetensors, tune: prompts,
 tasks: [{kind: text_classification, data: kinds.tsv, target: kind, batch: 3}],
 evaluations: [{kind: text_classification, data: kinds.tsv, target: kind}]}
END
before=$(sha256sum tiny.safetensors)
ok train tune.yaml --steps 2 --threads 1 --quiet
is 'steps of the flag' "$(tail -1 tuning/metrics.jsonl | grep -c '"step":2,')" 1
is 'the shared model keeps its bytes' "$(sha256sum tiny.safetensors)" "$before"
count 'a tuned task is small' test "$(stat -c %s tuning/tuned.safetensors)" -lt 100000
ok eval tune.yaml --quiet --threads 1 && has 'text_classification  *accuracy'
ok eval tune.yaml --quiet --threads 1 --model tiny.safetensors --tuned tuning/tuned.safetensors && has accuracy
ok classify "${m[@]}" --tuned tuning/tuned.safetensors --text 'it barks' --json && has '"dog"' && has '"cat"'
own=$out
ok classify "${m[@]}" --tuned tuning/tuned.safetensors --text 'it barks' --json --labels cat,dog
is 'its classes in any order' "$out" "$own"
ok classify "${m[@]}" --tuned tuning/tuned.safetensors --text 'it barks' --labels cat,dog,cow && is 'other labels' "$(wc -l <<<"$out")" 3
ok classify "${m[@]}" --text 'it barks' --labels cat,dog --template '{}' --template 'a {}' && is 'two templates' "$(wc -l <<<"$out")" 2
fails 1 'belongs to another model' eval tune.yaml --quiet --model again.safetensors --tuned tuning/tuned.safetensors
fails 1 'wants init_from' train tune.yaml init_from=null

# --- the example program ---
example=${UP_EXAMPLE:?}
out=$("$example" tiny.safetensors "$cat" cat dog 'a red car') && is 'example: a line a label' "$(wc -l <<<"$out")" 3
is 'example: probabilities' "$(awk '{s += $NF} END {printf "%.2f", s}' <<<"$out")" 1.00
"$example" tiny.safetensors text.jpg cat 2>errors
is 'example: bad picture' "$?: $(grep -c text.jpg errors)" '1: 1'

finish
