#!/bin/bash
# check_headers.sh INCLUDE CC CXX - each public header compiles alone, as C11 and as C++17, without a warning.
set -eu
include=${1:?} cc=${2:?} cxx=${3:?no C++ compiler found}
status=0 count=0
for path in "$include"/uniperceiver/*.h; do
    header=uniperceiver/$(basename "$path")
    count=$((count + 1))
    echo "#include <$header>" | "$cc" -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I "$include" -x c - ||
        { echo "FAILED: $header as C11"; status=1; }
    echo "#include <$header>" | "$cxx" -std=c++17 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I "$include" -x c++ - ||
        { echo "FAILED: $header as C++17"; status=1; }
done
echo "$count headers"
test $count -gt 0 -a $status -eq 0
