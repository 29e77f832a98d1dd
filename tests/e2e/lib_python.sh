# The first Python 3 that has what the step worker needs (Debian: python3-confluent-kafka python3-protobuf python3-crc32c).
for python in python3 /usr/bin/python3; do
    "$python" -c 'import confluent_kafka, crc32c, google.protobuf' 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    echo "skipped: no Python with confluent_kafka, protobuf and crc32c (tests/install-packages test)"
    exit 77
fi
