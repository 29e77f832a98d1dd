# A machine that boots systemd, with Perdure, its unit and two modules of the tests. tests/docker/systemd builds and runs it.
ARG TAG=test
FROM perdure-sdk:${TAG} AS modules
COPY *.c ./
RUN for file in *.c; do \
        cc -shared -fPIC -g -Wl,--build-id "$file" -o "${file%.c}.so" $(pkg-config --cflags perdure) || exit 1; \
    done

FROM perdure:${TAG}
USER 0:0
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends systemd systemd-sysv libnss-systemd \
    && rm -rf /var/lib/apt/lists/* \
    && systemctl mask systemd-sysctl systemd-udevd systemd-modules-load systemd-logind systemd-networkd systemd-timesyncd getty.target
COPY --from=modules /src/*.so /usr/local/lib/perdure/test/
COPY perdure-worker@.service /etc/systemd/system/
COPY systemd-boot /usr/local/sbin/
RUN mkdir /etc/perdure
STOPSIGNAL SIGRTMIN+3
HEALTHCHECK NONE
ENTRYPOINT ["sh", "/usr/local/sbin/systemd-boot"]
CMD []
