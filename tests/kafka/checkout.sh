#!/bin/bash
# The sample checkout, in all its ways out.
exec python3 "$(dirname "$0")/../e2e/checkout.py" kafka
