#!/bin/bash
# A worker with a new job type joins: its starts are taken everywhere.
exec python3 "$(dirname "$0")/../e2e/new_type.py" kafka
