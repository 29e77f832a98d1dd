#!/bin/bash
# Signals while ownership moves: none lost, none doubled.
exec python3 "$(dirname "$0")/../e2e/moving_signals.py" kafka
