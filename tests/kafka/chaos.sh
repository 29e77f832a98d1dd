#!/bin/bash
# Four workers, three brokers, and everything that can happen to them; then the whole log is judged.
here=$(cd "$(dirname "$0")" && pwd)
python=python3
for try in python3 /usr/bin/python3; do
    "$try" -c 'import google.protobuf' 2>/dev/null && python=$try && break
done
PYTHONPATH=$here/../e2e exec "$python" "$here/chaos.py" "$@"
