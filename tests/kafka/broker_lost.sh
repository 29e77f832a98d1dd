#!/bin/bash
# A broker loses its disk under load, and gets an empty one; with PERDURE_SOAK=1 each of three does.
here=$(cd "$(dirname "$0")" && pwd)
# They start five times in a minute: code that is compiled well would not pay.
export PERDURE_JAVA_OPTIONS=${PERDURE_JAVA_OPTIONS:--Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC}
PYTHONPATH=$here/../e2e exec python3 "$here/broker_lost.py"
