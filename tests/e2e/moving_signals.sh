#!/bin/bash
# Signals while ownership moves: none lost, none doubled.
exec python3 "$(dirname "$0")/moving_signals.py" sqlite
