# A stand-in for docker.io/apache/kafka where no registry can be reached: the same jars, from the Maven repository, the same
# paths, and KAFKA_... variables as settings. tests/docker/compose builds it.
FROM docker.io/library/debian:12
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
COPY libs /opt/kafka/libs
COPY kafka-entry /opt/kafka/entry
COPY kafka-broker-api-versions.sh /opt/kafka/bin/
RUN useradd --system --uid 1000 appuser && mkdir -p /var/lib/kafka/data /opt/kafka/config \
    && chown -R appuser /var/lib/kafka /opt/kafka/config
USER appuser
VOLUME /var/lib/kafka/data
CMD ["sh", "/opt/kafka/entry"]
