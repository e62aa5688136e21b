#!/bin/bash
# setup.sh FOLDER - a Python environment with the programs that ours is compared with, the newest of each, in FOLDER.
# Then: scripts/benchmarks.sh --python FOLDER/bin/python
set -eu
if [ $# != 1 ] || [ "$1" = --help ]; then
    sed -n '2,3s/^# \{0,1\}//p' "$0"
    exit 2
fi
python3 -m venv "$1"
"$1/bin/python" -m pip install --quiet --upgrade pip
# One after the other: what cannot be had here is left out, and compare.py says so.
while read -r package; do
    "$1/bin/python" -m pip install --quiet --upgrade "$package" || echo "setup.sh: $package could not be installed" >&2
done <"$(dirname "$0")/requirements.txt"
