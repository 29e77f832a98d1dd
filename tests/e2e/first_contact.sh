#!/bin/bash
# The first minutes with the command: fields, exit codes, with and without a worker.
exec python3 "$(dirname "$0")/first_contact.py" sqlite
