#!/bin/bash
# The store inside an embedded log costs time only, whatever is done to it.
exec python3 "$(dirname "$0")/store_cache.py" sqlite
