#!/bin/bash
# Rates of job types.
exec python3 "$(dirname "$0")/job_rate.py" sqlite
