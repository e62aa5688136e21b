#!/bin/bash
# check_symbols.sh SHARED STATIC - every name that either library gives to a program begins with up_, and the shared one
# exports the public functions and no internal one; each of them is called with NULL and the like in tests/test_null.c.
set -eu
export LC_ALL=C
shared=${1:?} static=${2:?}

exported=$(nm -D --defined-only "$shared" | awk '{print $NF}' | sort -u)
global=$(nm -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u)
status=0
for names in exported global; do
    foreign=$(grep -vE '^(up_|_Z[0-9]+up_)' <<<"${!names}" | grep -vE '^__odr_asan' || true)
    count=$(wc -l <<<"${!names}")
    echo "$names: $count names"
    if [ -n "$foreign" ]; then
        echo "FAILED: $names names without up_:" "${foreign//$'\n'/ }"
        status=1
    fi
done
for name in up_model_load up_encode up_classify up_tokenize up_train up_backend_create; do
    grep -qx "$name" <<<"$exported" || { echo "FAILED: $name is not exported"; status=1; }
done
for name in up_ref_gemm up_plan_activations up_cpu_choose_gemm up_settings_read; do
    grep -qx "$name" <<<"$global" || { echo "FAILED: $name is not in the static library: is the list here out of date?"; status=1; }
    if grep -qx "$name" <<<"$exported"; then echo "FAILED: $name is internal, but exported"; status=1; fi
done
functions=$(nm -D --defined-only "$shared" | awk '$2 == "T" && $3 ~ /^up_/ {print $3}' | sort)
list=$(dirname "$0")/abi.symbols # docs/abi.md
if ! diff "$list" - <<<"$functions"; then
    echo "FAILED: the exported functions are not those of tests/abi.symbols (<)"
    status=1
fi
while read -r name; do
    grep -q "\b$name(" "$(dirname "$0")/test_null.c" || { echo "FAILED: tests/test_null.c does not call $name"; status=1; }
done <<<"$functions"
exit $status
