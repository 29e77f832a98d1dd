#!/bin/bash
# A standby worker takes over what it followed.
exec python3 "$(dirname "$0")/../e2e/standby.py" kafka
