#!/bin/bash
# A client program of one's own, over the public functions.
. "$(dirname "$0")/lib_command.sh"

cat >"$here/client.c" <<'END'
#include <perdure/perdure.h>
#include <stdio.h>
#include <string.h>

PDR_JOB(hello, pdr_text, pdr_text)
PDR_SIGNAL(approved, pdr_json)

#define CHECK(expression)                                                                             \
    do {                                                                                              \
        if (!(expression)) {                                                                          \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #expression, pdr_client_error(client)); \
            return 1;                                                                                 \
        }                                                                                             \
    } while (0)

int main(void)
{
    pdr_client *client;
    pdr_text name = { "Ada" }, other = { "Eve" }, *out;
    pdr_json yes = { "{\"ok\":true}" };
    CHECK(pdr_client_open("sqlite:/tmp/not-there.db", &client) == PDR_NOT_FOUND);
    CHECK(strstr(pdr_client_error(client), "/tmp/not-there.db"));
    CHECK(pdr_client_start(client, hello, "a", &name) == PDR_UNREACHABLE);
    pdr_client_close(client);
    CHECK(pdr_client_open(NULL, &client) == PDR_OK);
    CHECK(pdr_client_start(client, hello, "a", &name) == PDR_OK);
    CHECK(pdr_client_start(client, hello, "a", &name) == PDR_OK);
    CHECK(pdr_client_result(client, hello, "a", &out, .timeout_ms = 20 * PDR_SECOND) == PDR_OK);
    CHECK(strcmp(out->chars, "Hello, Ada! Bonjour! Yours, a.") == 0);
    pdr_free(out);
    pdr_free(NULL);
    CHECK(pdr_client_failure(client) == NULL);
    CHECK(pdr_client_start(client, hello, "a", &other) == PDR_EXISTS);
    CHECK(pdr_client_start(client, hello, "a", &other, .again = true) == PDR_OK);
    CHECK(pdr_client_result(client, hello, "a", NULL) == PDR_OK);
    CHECK(pdr_client_start(client, hello, "", &name) == PDR_INVALID);
    CHECK(pdr_client_signal(client, approved, "nobody", &yes) == PDR_NOT_FOUND);
    CHECK(pdr_client_cancel(client, "nobody", NULL) == PDR_NOT_FOUND);
    CHECK(pdr_client_terminate(client, "nobody", "why not") == PDR_NOT_FOUND);
    CHECK(pdr_client_result(client, hello, "nobody", &out, .timeout_ms = 5 * PDR_SECOND) == PDR_NOT_FOUND);
    CHECK(out == NULL);
    for (int i = 0; i < 200; i++) { /* more than one answer is on its way */
        char id[20];
        snprintf(id, sizeof id, "many-%d", i);
        CHECK(pdr_client_start(client, hello, id, &name) == PDR_OK);
    }
    for (int i = 199; i >= 0; i--) {
        char id[20];
        snprintf(id, sizeof id, "many-%d", i);
        CHECK(pdr_client_result(client, hello, id, &out, .timeout_ms = 20 * PDR_SECOND) == PDR_OK);
        pdr_free(out);
    }
    pdr_client_close(client);
    return 0;
}
END
library=$(find "$PERDURE_BUILD" -name 'libperdure.so' | head -1)
cc -std=gnu11 -Wall -I"$PERDURE_SOURCE/runtime/include" -o "$here/client" "$here/client.c" "$library" \
    -Wl,-rpath,"$(dirname "$library")"
expect 0 "1 partition" "$perdure" namespace create
worker_start "$samples/hello.so"
timeout 60 "$here/client" || fail "the client program"
echo "a client program starts, asks, signals and is told"
