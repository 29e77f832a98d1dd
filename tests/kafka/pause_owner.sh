#!/bin/bash
# SIGSTOP of an owner, takeover, SIGCONT: nothing of the fenced one counts.
exec python3 "$(dirname "$0")/../e2e/pause_owner.py" kafka
