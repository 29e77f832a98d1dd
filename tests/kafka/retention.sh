#!/bin/bash
# Jobs come and are forgotten, journals are cut by DeleteRecords, workers are killed in the middle of it.
exec python3 "$(dirname "$0")/../e2e/retention.py" kafka
