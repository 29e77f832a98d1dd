#!/bin/bash
# A worker's store costs time only, whatever is done to it.
exec python3 "$(dirname "$0")/../e2e/store_cache.py" kafka
