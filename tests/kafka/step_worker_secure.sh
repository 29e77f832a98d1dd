#!/bin/bash
# The Python step worker over TLS and SASL, with the rights it needs and no more.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/step_worker_secure.py"
