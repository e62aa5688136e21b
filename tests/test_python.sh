#!/bin/bash
# test_python.sh PROGRAM SOURCE - the Python package's own test, or why it cannot run.
set -eu
python=${UP_PYTHON:-python3}
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "python: skipped: $python has no numpy (UP_PYTHON names another Python)"
    exit 77
fi
exec "$python" -B "$2/python/tests/test_package.py" "$1" "$2"
