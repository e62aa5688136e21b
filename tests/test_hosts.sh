#!/bin/bash
# test_hosts.sh - two ranks on two hosts, which are network namespaces with a cable between them: they train over TCP as one
# process does, what goes over the cable is what the program says, and a cable that is cut ends the job within the deadline.
# Needs root, ip and Open MPI; skipped (77) where one of them is missing.
set -eu
source_dir=${UP_SOURCE_DIR:?} program=${UP_BINARY:?} mpirun=${UP_MPIRUN:-}
skip() {
    echo "hosts: skipped: $1"
    exit 77
}
[ -n "$mpirun" ] || skip "the program was built without MPI"
"$mpirun" --version 2>/dev/null | grep -qE "Open ?(MPI|RTE)" || skip "mpirun is not Open MPI's"
[ "$(id -u)" = 0 ] || skip "network namespaces want root"
type -P ip >/dev/null || skip "there is no ip"
a=up$$a b=up$$b
ip netns add $a 2>/dev/null || skip "network namespaces cannot be made here"
folder=$(mktemp -d)
ours() { # processes of this test, by the name of its folder
    grep -lsF "$folder" /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx $$ || true
}
cleanup() {
    for process in $(ours); do kill -9 "$process" 2>/dev/null || true; done # Open MPI's daemons wait for each other
    ip netns del $a 2>/dev/null || true
    ip netns del $b 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
ip netns add $b
ip -n $a link add $a type veth peer name $b netns $b || skip "no pair of network devices can be made here"
n=1
for host in $a $b; do
    ip -n $host addr add 10.213.7.$n/24 dev $host
    ip -n $host link set $host up
    ip -n $host link set lo up
    n=$((n + 1))
done

# What mpirun takes for ssh: the command on the other host, under that host's name.
cat >"$folder/agent" <<END
#!/bin/bash
shift
exec ip netns exec $b unshare -u bash -c "hostname $b; \$*"
END
chmod +x "$folder/agent"
printf 'image\tlabel\n' >"$folder/pictures.tsv"
printf '%s\t%s\n' "$source_dir/golden/image/jpeg_420.jpg" photograph "$source_dir/golden/image/png_rgb8.png" drawing \
    "$source_dir/golden/image/png_grey8.png" drawing >>"$folder/pictures.tsv"
printf 'text\na cat in the mountains\nwhat remains of a fire\none who bakes bread\n' >"$folder/texts.tsv"
cat >"$folder/train.yaml" <<END
run: $folder/run
steps: 20
log_every: 20
model: {preset: tiny, layers: 2, width: 16, heads: 2, ffn: 64, text_positions: 16, image_size: 16, image_resize: 20, patch: 8}
tasks:
  - {kind: image_classification, data: $folder/pictures.tsv, batch: 3, text_limit: 12}
  - {kind: mlm, data: $folder/texts.tsv, batch: 3, text_limit: 12, mask: 0.3}
END

on_hosts() { # on_hosts ARGUMENT... : `uniperceiver train` with a rank on each host
    ip netns exec $a unshare -u bash -c 'hostname '$a'; exec "$@"' - "$mpirun" --mca plm_rsh_agent "$folder/agent" --mca btl tcp,self \
        --mca oob_tcp_if_include 10.213.7.0/24 --mca btl_tcp_if_include 10.213.7.0/24 \
        -host 10.213.7.1,10.213.7.2 -n 2 "$program" train "$folder/train.yaml" --quiet "$@"
}
sent() { # bytes that went over the cable so far, both ways
    ip netns exec $a cat /sys/class/net/$a/statistics/tx_bytes /sys/class/net/$a/statistics/rx_bytes | awk '{s += $1} END {printf "%d", s}'
}

ranks() { # those of the run that will be cut
    grep -lsF "run=$folder/cut" /proc/[0-9]*/cmdline | cut -d/ -f3 | while read -r p; do
        if [ "$(readlink /proc/$p/exe)" = "$(readlink -f "$program")" ]; then echo $p; fi
    done
}

before=$(sent)
on_hosts
wire=$(($(sent) - before))
said=$(grep -o '"sent_bytes":[0-9]*' "$folder/run/metrics.jsonl" | cut -d: -f2)
norm=$(grep -o '"gradient_norm":[0-9.]*' "$folder/run/metrics.jsonl" | cut -d: -f2)
"$program" train "$folder/train.yaml" --quiet run="$folder/alone" accumulate=2
alone=$(grep -o '"gradient_norm":[0-9.]*' "$folder/alone/metrics.jsonl" | cut -d: -f2)
echo "hosts: 20 steps: $wire bytes over the cable, $said of values sent; last gradient norm $norm, alone $alone"
awk -v w="$wire" -v s="$said" 'BEGIN {exit !(w >= s && w < 1.1 * s + 1e6)}' || { echo "FAILED: the cable carried another amount"; exit 1; }
# A norm is the root of a sum of squares of values that are off by about 1e-6 of the largest (test_ranks.c measures it).
awk -v x="$norm" -v y="$alone" 'BEGIN {d = x / y - 1; exit !(d < 1e-5 && d > -1e-5)}' || { echo "FAILED: another gradient"; exit 1; }

on_hosts run="$folder/cut" steps=100000 comm_deadline=5 >"$folder/log" 2>&1 &
job=$!
for _ in $(seq 100); do
    if grep -q step "$folder/cut/metrics.jsonl" 2>/dev/null; then break; fi
    sleep 0.1
done
start=$(date +%s)
ip -n $b link set $b down
while [ -n "$(ranks)" ] && [ $(($(date +%s) - start)) -lt 20 ]; do sleep 0.2; done
seconds=$(($(date +%s) - start))
echo "hosts: the cable was cut: both ranks ended after $seconds s; $(grep -o 'rank 1 (.*' "$folder/log" | head -1)"
[ $seconds -le 12 ] && grep -q 'rank 1 (process .*) does not answer' "$folder/log" || { echo "FAILED"; cat "$folder/log"; exit 1; }
