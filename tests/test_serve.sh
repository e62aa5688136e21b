#!/bin/bash
# test_serve.sh - the command serve from outside, with curl and Python on a small random model: every endpoint against the
# commands of the same name, limits, hostile requests, slow and idle clients, the end on a signal.
# UP_BINARY and UP_SOURCE_DIR name the program and the source tree. Exit 77: not built with it, or no curl or Python.
set -u
export LC_ALL=C
up=${UP_BINARY:?} golden=${UP_SOURCE_DIR:?}/golden tests=$UP_SOURCE_DIR/tests
type -P curl python3 >/dev/null || { echo "test_serve: skipped: curl and python3 are wanted"; exit 77; }
work=$(mktemp -d) && cd "$work" || exit 1
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
. "$UP_SOURCE_DIR/tests/checks.sh"

start() { # start FLAGS...: a server of the model
    "$up" serve tiny.safetensors --port 0 "$@" >listening 2>errors &
    server=$!
    until_listening
}
until_listening() { # $url is where it is
    for _ in $(seq 400); do
        url=$(sed -n 's!^listening on \(.*\)/$!\1!p' listening 2>/dev/null)
        [ -n "$url" ] && return
        sleep 0.05
    done
    echo "FAILED: the server does not start: $(cat errors)"
    exit 1
}
stop() { # stop SIGNAL CODE: ends with this exit code, and nothing on stderr
    kill "-$1" "$server"
    wait "$server"
    is "exit on $1" $? "$2"
    server=
    rm listening
    is "stderr" "$(cat errors)" ""
}
ask() { # ask STATUS PATH [CURL ARGUMENTS]...: the status; the answer is kept in $out
    local status=$1 path=$2
    shift 2
    is "$path: status" "$(curl -s -m 60 -o answer -w '%{http_code}' "$@" "$url$path")" "$status"
    out=$(tr -d '\0' <answer)
}
post() { # post STATUS PATH JSON: a request in a file, since pictures are longer than arguments may be
    printf %s "$3" >request
    ask "$1" "$2" -H 'Content-Type: application/json' --data-binary @request
}
field() { # field EXPRESSION: of the last answer, as `a`
    python3 -c "import json, sys; a = json.load(open('answer')); print($1)"
}
near() { # near WHAT GOT WANTED
    count "$1: got $2, wanted $3" python3 -c "import sys; sys.exit(not abs(float('$2') - float('$3')) < 2e-6)"
}

"$up" init --preset tiny --seed 1 --out tiny.safetensors || exit 1
"$up" init --over tiny.safetensors --prompts 4 --seed 2 --out tuned.safetensors || exit 1
if "$up" serve tiny.safetensors --port 0 --listen 127.0.0.999 2>&1 | grep -q 'built without'; then
    echo "test_serve: skipped: the program was built without libmicrohttpd"
    exit 77
fi
picture=$golden/image/jpeg_420.jpg clip=$golden/video/full.mkv
image="{\"image\":\"$(base64 -w0 "$picture")\"}" video="{\"video\":\"$(base64 -w0 "$clip")\"}"

# --- flags ---
"$up" serve tiny.safetensors --listen 0.0.0.0 2>errors
is "--listen without --token" $? 2
"$up" serve 2>errors
is "no model" $? 2
"$up" serve none.safetensors 2>errors
is "a model that is not there" $? 1
"$up" serve tiny.safetensors --tuned tuned.safetensors 2>errors
is "a tuned task without a name" $? 1
"$up" serve tiny.safetensors --listen nowhere --token t 2>errors
is "an address that is none" $? 1

# --- what each path answers ---
touch before
start --tuned small=tuned.safetensors
ask 200 / && has '<title>Uniperceiver</title>'
ask 200 /openapi.json && cmp -s answer "$UP_SOURCE_DIR/src/serve/openapi.json"
is "openapi.json" $? 0
is "paths of openapi.json" "$(field "' '.join(sorted(a['paths']))")" \
    "/ /caption /classify /encode /health /model /openapi.json /retrieve /search /thumbnail /vqa"
ask 200 /health && has '"status":"ok"'
ask 200 /model
is "tuned tasks" "$(field "[t['name'] for t in a['tuned']]")" "['', 'small']"

for tuned in "" small; do
    flag=()
    if [ -n "$tuned" ]; then flag=(--tuned tuned.safetensors); fi
    post 200 /classify "{\"input\":$image,\"labels\":[\"cat\",\"dog\",\"tree\"],\"tuned\":\"$tuned\"}"
    "$up" classify --model tiny.safetensors "${flag[@]}" --image "$picture" --labels cat,dog,tree --json >wanted
    near "classify $tuned" "$(field "a['labels'][0]['probability']")" \
        "$(python3 -c "import json; print(json.load(open('wanted'))[0]['answers'][0]['probability'])")"
done
post 200 /classify "{\"input\":$image,\"labels\":[\"cat\",\"dog\"],\"template\":\"a {}\",\"top\":1}"
is "top" "$(field "len(a['labels'])")" 1
post 200 /vqa "{\"input\":$image,\"question\":\"what is it\",\"answers\":[\"cat\",\"dog\"]}"
"$up" vqa --model tiny.safetensors --image "$picture" --question 'what is it' --answers cat,dog >wanted
near "vqa" "$(field "a['answers'][0]['probability']")" "$(head -1 wanted | cut -f2)"
post 200 /retrieve "{\"query\":$image,\"candidates\":[{\"text\":\"cat\"},$image,$video]}"
is "retrieve: the picture itself" "$(field "a['candidates'][0]['index']")" 1
post 200 /encode "{\"inputs\":[{\"text\":\"a cat\"},$image,$video,[$image,{\"text\":\"cat\"}]]}"
is "encode" "$(field "len(a['features']), a['width'], round(sum(x * x for x in a['features'][3]), 5)")" "4 128 1.0"
post 200 /encode '{"inputs":[{"text":"a cat"}]}'
"$up" encode --model tiny.safetensors --text 'a cat' --out cat.npy
is "encode against the command" "$(python3 -c "
import array, json
rows = json.load(open('answer'))['features'][0]
wanted = array.array('f', open('cat.npy', 'rb').read()[128:])
print(max(abs(x - y) for x, y in zip(rows, wanted)) < 1e-6 and len(wanted) == 128)")" True
post 200 /caption "{\"input\":$image,\"max_words\":5}"
"$up" caption --model tiny.safetensors --image "$picture" --max-words 5 --cache none >wanted
is "caption" "$(field "a['text']")" "$(cat wanted)"
post 200 /caption "{\"input\":$image,\"max_words\":5,\"stream\":true}"
is "stream: last event" "$(python3 -c "
import json
events = [e.split('\n') for e in open('answer').read().strip().split('\n\n')]
told = [json.loads(e[1][6:]) for e in events]
assert [e[0] for e in events] == ['event: words'] * (len(events) - 1) + ['event: done'], events
assert [t['words'] for t in told[:-1]] == list(range(1, len(told))), told
print(told[-1]['text'])")" "$(cat wanted)"
post 200 /caption '{"input":{"text":"a cat"},"max_words":3}'

# --- what is wrong is told ---
post 400 /classify '{"input":{"text":"x"},"labels":["a"],"colour":1}' && has 'no field of the name'
post 400 /classify '{"labels":["a"]}' && has '"error":"input: is missing"'
post 400 /classify '{"input":{"text":"x"},"labels":[]}' && has 'labels: wanted a list'
post 400 /classify '{"input":{"text":"x"},"labels":[1]}' && has 'number 0 is not a text'
post 400 /classify '{"input":{"text":"x"}}' && has 'labels: are missing'
post 400 /classify '{"input":{"text":"x"},"labels":["a"],"tuned":"big"}' && has 'no task of the name'
post 400 /classify '{"input":{"image":"AAAA"},"labels":["a"]}' && has 'no JPEG, PNG, WebP'
post 400 /classify '{"input":{"image":"A*AA"},"labels":["a"]}' && has 'not base64'
post 400 /classify '{"input":{"image":""},"labels":["a"]}' && has 'is empty'
post 400 /classify '{"input":{"video":"AAAA"},"labels":["a"]}' && has '"error":"video: '
post 400 /caption "{\"input\":{\"image\":\"AAAA\"},\"stream\":true}" && has '"error":"image: '
post 400 /caption '{"input":{"text":"x"},"beam":1000}' && has 'beam: wanted a whole number'
post 400 /vqa "{\"input\":$image,\"answers\":[\"a\"]}" && has 'question: is missing'
post 400 /classify '[' && has 'not sound JSON'
post 400 /classify "$(printf '[%.0s' $(seq 100000))" && has 'not sound JSON'
post 400 /encode '{"inputs":[{"text":"a\u0000b"}]}'
printf '{"inputs":[{"text":"\377"}]}' >request
ask 400 /encode -H 'Content-Type: application/json' --data-binary @request
ask 415 /classify -d '{}' && has 'wanted application/json'
ask 405 /classify && has 'wanted POST'
ask 405 /health -d '{}'
ask 405 / -X DELETE
ask 404 /etc/passwd
ask 404 /../../etc/passwd --path-as-is
ask 403 /health -H 'Host: example.org' && has 'localhost alone'
ask 200 /health -H 'Host: localhost:1'
is "HEAD" "$(curl -sI "$url/" | head -1 | tr -d '\r')" "HTTP/1.1 200 OK"

post 404 /search '{"query":{"text":"x"}}' && has 'none to search in'

stop TERM 0

# --- an index: searched as the command does, and thumbnails of its files alone ---
bytes=$(printf 'n\351.png')
mkdir pictures
cp "$picture" pictures/a.jpg
cp "$golden/image/source.png" "pictures/$bytes"
cp "$clip" pictures/c.mkv
echo secret >secret.txt
"$up" index --model tiny.safetensors pictures --text 'a cat' --out files.index >/dev/null
"$up" serve tuned.safetensors --port 0 --index files.index 2>errors
is "an index of another model" $? 1
start --index files.index
ask 200 /model && has '"index":{"rows":4}'
post 200 /search "{\"query\":$image,\"top\":2}"
is "search: the picture itself" "$(field "a['results'][0]['name'], a['results'][0]['file'], len(a['results'])")" "pictures/a.jpg True 2"
post 200 /search "{\"query\":[$image,{\"text\":\"a cat\"}]}"
"$up" search --model tiny.safetensors files.index --join --image "$picture" --text 'a cat' --json >wanted
is "search against the command" "$(python3 -c "
import json, os
told, wanted = json.load(open('answer'))['results'], json.load(open('wanted'))[0]['results']
assert [r['name'] for r in told] == [r['name'] for r in wanted], (told, wanted)
assert all(abs(a['score'] - b['score']) < 1e-6 for a, b in zip(told, wanted)), (told, wanted)
print(all(os.path.exists(os.fsencode(r['name'])) for r in told if r['file']), sum(not r['file'] for r in told))")" "True 1"
for row in 0 1 2; do
    post 200 /thumbnail "{\"row\":$row}"
    is "thumbnail $row" "$(head -c 3 answer | od -An -tx1)" " ff d8 ff"
done
post 400 /thumbnail '{"row":3}' && has 'a text, not a file'
post 400 /thumbnail '{"row":4}' && has 'wanted a whole number from 0 to 3'
post 400 /thumbnail '{"row":-1}'
post 400 /thumbnail '{}' && has 'row: is missing'
post 400 /thumbnail '{"name":"secret.txt"}' && has 'no field of the name'
post 400 /search '{"query":{"text":"x"},"top":1000}' && has 'from 1 to 100'
ask 405 /thumbnail
rm "pictures/$bytes"
post 404 /thumbnail '{"row":2}' && has 'cannot be read any more'
stop TERM 0
rm -r pictures secret.txt files.index

# --- hostile requests ---
start --max-seconds 2
python3 "$tests/serve_fuzz.py" "$url" 1000 || failures=$((failures + 1))
ask 200 /health
count "the server lives" kill -0 "$server"
stop TERM 0
is "files that the server wrote" "$(find . -newer before -type f | sort | xargs)" "./answer ./cat.names ./cat.npy ./errors ./request ./wanted"

# --- limits ---
start --max-body 1 --max-pixels 1000 --max-seconds 2 --max-waiting 2 --batch 1 --batch-wait 0
post 400 /classify "{\"input\":$image,\"labels\":[\"a\"]}" && has 'more than the limit of 1000'
head -c 2000000 /dev/zero | tr '\0' ' ' >long
for how in 'X: y' 'Expect:' 'Transfer-Encoding: chunked'; do
    ask 413 /classify -H 'Content-Type: application/json' -H "$how" --data-binary @long && has 'body: '
done
python3 "$tests/serve_load.py" "$url" slow || failures=$((failures + 1))
python3 "$tests/serve_load.py" "$url" full || failures=$((failures + 1))
stop INT 0

# --- a token ---
start --listen 127.0.0.1 --token secret
ask 200 /
ask 200 /health
ask 401 /model && has 'token: wanted'
ask 401 /model -H 'Authorization: Bearer secre'
ask 401 /model -H 'Authorization: Bearer secretsecret'
ask 401 /model -H 'Authorization: Bearer '
ask 200 /model -H 'Authorization: Bearer secret'
post 401 /classify '{"input":{"text":"x"},"labels":["a"]}'
stop TERM 0

# --- few connections: those that say nothing give way ---
(ulimit -n 1024 && exec "$up" serve tiny.safetensors --port 0 >listening 2>errors) &
server=$!
until_listening
python3 "$tests/serve_load.py" "$url" idle || failures=$((failures + 1))
stop TERM 0

# --- together, idle, and the end ---
start --batch-wait 20
python3 "$tests/serve_load.py" "$url" batch || failures=$((failures + 1))
python3 "$tests/serve_load.py" "$url" idle || failures=$((failures + 1))
python3 "$tests/serve_load.py" "$url" stop "$server" || failures=$((failures + 1))
wait "$server"
is "exit while it was asked" $? 0
server=

finish
