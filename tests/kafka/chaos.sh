#!/bin/bash
# Four workers, three brokers, and everything that can happen to them; then the whole log is judged.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../e2e/lib_python.sh"
PYTHONPATH=$here/../e2e exec "$python" "$here/chaos.py" "$@"
