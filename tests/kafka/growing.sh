#!/bin/bash
# A namespace grows under load, with a worker killed meanwhile (rules 24, 25).
exec python3 "$(dirname "$0")/../e2e/growing.py" kafka
