#!/bin/bash
# Rates of job types.
exec python3 "$(dirname "$0")/../e2e/job_rate.py" kafka
