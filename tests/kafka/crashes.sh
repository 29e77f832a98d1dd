#!/bin/bash
# Every way to crash a worker: whose it was, quarantine, resume.
exec python3 "$(dirname "$0")/../e2e/crashes.py" kafka
