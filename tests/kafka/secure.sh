#!/bin/bash
# TLS, SASL and ACLs: each role can do its work and nothing more; refusals are quick and clear.
exec python3 "$(dirname "$0")/../e2e/secure.py" kafka
