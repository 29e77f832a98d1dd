/*
 * A client for the chaos test, with many commands on the way at once. It reads lines
 *
 *     start REQUEST JOB TYPE INPUT
 *     signal REQUEST JOB NAME PAYLOAD
 *
 * (INPUT and PAYLOAD are texts without a space) and prints, for each, `logged REQUEST` when the log has acknowledged it,
 * `answered REQUEST` when the owner has taken it, or `refused REQUEST WHY`. It ends when its input has ended and all is
 * answered, or with exit code 1 when the log cannot go on. Killed and started again with the same requests, it does
 * nothing twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"

struct asked {
    struct asked *next;
    struct question *question;
    bool logged;
};

struct input {
    char text[1 << 16];
    size_t used;
    bool ended;
};

static struct question *ask(struct client *client, char *line)
{
    char *save, *kind = strtok_r(line, " ", &save), *request = strtok_r(NULL, " ", &save);
    char *job = strtok_r(NULL, " ", &save), *name = strtok_r(NULL, " ", &save), *text = strtok_r(NULL, " ", &save);
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    if (!text) {
        fprintf(stderr, "chaos-client: not a command: %s\n", line);
        exit(2);
    }
    payload.type = (char *)"text";
    payload.data.data = (uint8_t *)text;
    payload.data.len = strlen(text);
    command.request = request;
    if (strcmp(kind, "start") == 0) {
        start.type = name;
        start.input = &payload;
        command.kind_case = PERDURE__V1__COMMAND__KIND_START;
        command.start = &start;
    } else {
        signal.name = name;
        signal.payload = &payload;
        command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
        command.signal = &signal;
    }
    return client_ask(client, job, &command);
}

static void take_line(struct client *client, char *line, struct asked **open)
{
    struct asked *asked = calloc(1, sizeof *asked);
    asked->question = asked ? ask(client, line) : NULL;
    if (!asked || !asked->question) {
        fprintf(stderr, "chaos-client: %s\n", client_error(client));
        exit(1);
    }
    asked->next = *open;
    *open = asked;
}

/* Whatever is there, without waiting. */
static void take_input(struct client *client, struct input *input, struct asked **open)
{
    ssize_t got = read(STDIN_FILENO, input->text + input->used, sizeof input->text - input->used);
    input->ended = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    input->used += got > 0 ? (size_t)got : 0;
    char *from = input->text, *end;
    while ((end = memchr(from, '\n', input->used - (size_t)(from - input->text)))) {
        *end = '\0';
        take_line(client, from, open);
        from = end + 1;
    }
    input->used -= (size_t)(from - input->text);
    memmove(input->text, from, input->used);
}

/* True: it is settled. */
static bool tell(struct asked *asked)
{
    const struct question *question = asked->question;
    const Reply *reply = question->ended ? question->ended : question->answer;
    if ((question->in_log || reply) && !asked->logged) {
        asked->logged = true;
        printf("logged %s\n", question->request);
    }
    if (!reply)
        return false;
    if (strcmp(reply->answer, "refused") == 0 || strcmp(reply->answer, "unknown") == 0)
        printf("refused %s %s: %s\n", question->request, reply->answer, reply->error ? reply->error->message : "");
    else
        printf("answered %s\n", question->request);
    return true;
}

static void tell_all(struct client *client, struct asked **open)
{
    for (struct asked **link = open; *link;) {
        struct asked *asked = *link;
        if (!tell(asked)) {
            link = &asked->next;
            continue;
        }
        *link = asked->next;
        client_forget(client, asked->question);
        free(asked);
    }
    fflush(stdout);
}

int main(void)
{
    static struct input input;
    struct client_options options = {.name = "chaos-client"};
    struct client *client = NULL;
    struct asked *open = NULL;
    char error[1000] = "";
    int code = client_open(client_default_log(), &options, &client, error, sizeof error);
    if (code != EXIT_OK) {
        fprintf(stderr, "chaos-client: %s\n", error);
        return code;
    }
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    while (!input.ended || open) {
        take_input(client, &input, &open);
        if (!client_poll(client, 20)) {
            fprintf(stderr, "chaos-client: %s\n", client_error(client));
            return 1;
        }
        tell_all(client, &open);
    }
    client_close(client);
    return 0;
}
