#!/bin/bash
# Wrong topic settings: no worker starts on them.
exec python3 "$(dirname "$0")/../e2e/topic_settings.py" kafka
