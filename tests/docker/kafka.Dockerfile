# A stand-in for docker.io/apache/kafka where no registry can be reached: the same jars, from the Maven repository, the same
# paths, users and volumes, and Kafka's own class that reads KAFKA_... variables. tests/docker/images builds it.
ARG DEBIAN=docker.io/library/debian:12-slim
FROM ${DEBIAN}
LABEL perdure.stand-in="apache/kafka"
RUN apt-get update -q \
    && mkdir -p /usr/share/man/man1 \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home appuser \
    && mkdir -p /var/lib/kafka/data /opt/kafka/config /etc/kafka/docker /etc/kafka/secrets /mnt/shared/config \
    && touch /etc/kafka/docker/server.properties \
    && chown -R appuser:appuser /opt/kafka /mnt/shared/config && chown -R appuser:root /var/lib/kafka /etc/kafka
COPY libs /opt/kafka/libs
COPY log4j2.yaml /etc/kafka/docker/log4j2.yaml
COPY log4j2.yaml /etc/kafka/docker/tools-log4j2.yaml
COPY kafka-entry /etc/kafka/docker/run
USER appuser
EXPOSE 9092
VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]
CMD ["sh", "/etc/kafka/docker/run"]
