#!/bin/bash
# Parents, children and signals across partitions while workers are killed.
exec python3 "$(dirname "$0")/../e2e/family.py" kafka
