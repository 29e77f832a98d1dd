/*
 * The embedded log as a client has it (rule 28): it asks the file's owner over the socket; while there is none it takes
 * the lock itself for one operation. A request that got no answer goes again with the same request id until its
 * deadline, by whichever way is open then.
 */
#define _GNU_SOURCE
#include "log/sqlite.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/sqlite_server.h"

#define CALL_MS 15000          /* a question, from the first try to the last */
#define SILENT_MS 3000         /* an owner that says nothing for so long is asked anew */
#define SUBMIT_SILENT_MS 10000 /* commits may wait for a full disk */
#define BACKOFF_FIRST_MS 5
#define BACKOFF_MAX_MS 200     /* somebody else holds the lock for one operation */
#define LOOK_MS 500            /* no owner and nothing to do but wait for one */
#define PENDING_LIMIT 5000

/* An append that is not yet answered. */
struct pending {
    struct pending *next;
    uint64_t frame, cookie;
    uint32_t partition;
    bool sent;       /* on the present connection */
    bool sent_once;  /* so it may be in the log */
    int64_t deadline;
    size_t size;
    char record[];
};

struct client_follower {
    bool active, told_end;
    uint32_t generation;
    int64_t next;
    uint64_t frame;  /* of the read under way; 0: none */
};

/* Frames that came while nobody polled. */
struct arrived {
    struct arrived *next;
    SocketFrame *frame;
};

struct sqlite_client {
    struct log log;
    struct sqlite_paths paths;
    char *name;
    bool read_only;
    pid_t pid;
    uint64_t id;             /* ReplyTo.client */
    bool expects_replies;
    int fd, wake_fd;
    bool welcome, wrong;     /* wrong: another log is in the file's place */
    uint64_t hello, last_frame;
    struct sqlite_buffer in, out;
    int64_t heard_at;        /* last byte from the owner, or since when we wait for one */
    int64_t retry_at, backoff;
    int64_t told_unreachable_at;
    struct pending *pending, **pending_last;
    size_t pending_count;
    struct client_follower *followers;
    struct arrived *arrived, **arrived_last;
};

static struct sqlite_client *client_of(struct log *log) { return (struct sqlite_client *)log; }

static int client_fail(struct sqlite_client *client, const char *message)
{
    if (message != client->log.error)
        snprintf(client->log.error, sizeof client->log.error, "%s", message);
    client->log.error_exit = 5;
    return LOG_FAILED;
}

static bool client_take_genesis(struct sqlite_client *client, const Genesis *genesis)
{
    if (client->followers != NULL)
        return client->log.genesis.log_id == genesis->log_id;
    client->log.genesis = *genesis;
    client->log.genesis.namespace_ = strdup(genesis->namespace_);
    client->followers = calloc(2 * (size_t)genesis->partitions, sizeof *client->followers);
    return client->log.genesis.namespace_ != NULL && client->followers != NULL;
}

/* ---- the connection ---- */

static void client_disconnect(struct sqlite_client *client)
{
    if (client->fd >= 0) {
        sqlite_fork_release(client->fd);
        close(client->fd);
    }
    client->fd = -1;
    client->welcome = false;
    client->in.start = client->in.end = client->out.start = client->out.end = 0;
    for (struct pending *pending = client->pending; pending != NULL; pending = pending->next)
        pending->sent = false;
    for (uint32_t i = 0; client->followers != NULL && i < 2 * client->log.genesis.partitions; i++)
        client->followers[i].frame = 0;
}

static bool client_connect_to(struct sqlite_client *client, const struct sockaddr_un *address, socklen_t length)
{
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    if (connect(client->fd, (const struct sockaddr *)address, length) == 0) {
        sqlite_fork_guard(client->fd);
        return true;
    }
    close(client->fd);
    client->fd = -1;
    return false;
}

/* A socket in a folder that everybody may write counts only if it is the file owner's, ours, or root's. */
static bool client_trusts(const struct sqlite_client *client, const char *path)
{
    struct stat socket_file, database;
    if (stat(path, &socket_file) != 0 || stat(client->paths.database, &database) != 0)
        return false;
    return socket_file.st_uid == geteuid() || socket_file.st_uid == database.st_uid || socket_file.st_uid == 0;
}

/* Connects and greets. The answer comes later: client->welcome. */
static bool client_connect(struct sqlite_client *client)
{
    struct stat here;
    if (stat(client->paths.database, &here) != 0)
        return false;
    struct sockaddr_un address;
    int folder_fd;
    socklen_t length = sqlite_socket_beside(&client->paths, &folder_fd, &address);
    bool connected = client_connect_to(client, &address, length);
    if (folder_fd >= 0)
        close(folder_fd);
    length = sqlite_socket_elsewhere(&client->paths, &address);
    if (!connected && client_trusts(client, address.sun_path))
        connected = client_connect_to(client, &address, length);
    if (!connected)
        return false;
    Perdure__V1__SocketHello hello = PERDURE__V1__SOCKET_HELLO__INIT;
    hello.device = here.st_dev;
    hello.inode = here.st_ino;
    hello.log_id = client->followers != NULL ? client->log.genesis.log_id : 0;
    hello.client = client->id;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.id = client->hello = ++client->last_frame;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_HELLO;
    frame.hello = &hello;
    client->heard_at = sqlite_monotonic_ms();
    client->welcome = false;
    if (sqlite_frame_put(&client->out, &frame))
        return true;
    client_disconnect(client);
    return false;
}

static bool client_keep(struct sqlite_client *client, SocketFrame *frame)
{
    struct arrived *arrived = calloc(1, sizeof *arrived);
    if (arrived == NULL) {
        sqlite_frame_free(frame);
        return false;
    }
    arrived->frame = frame;
    *client->arrived_last = arrived;
    client->arrived_last = &arrived->next;
    return true;
}

static void client_greeted(struct sqlite_client *client, SocketFrame *frame)
{
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_WELCOME && frame->welcome->genesis != NULL) {
        client->welcome = client_take_genesis(client, frame->welcome->genesis);
        client->wrong = !client->welcome;
        client->backoff = 0;
    } else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE) {
        snprintf(client->log.error, sizeof client->log.error, "sqlite:%.200s: %.250s", client->paths.database,
                 frame->failure->message);
    }
    sqlite_frame_free(frame);
    if (!client->welcome)
        client_disconnect(client);
}

/* Moves bytes both ways. The frame `awaited` goes to `*answer`, all others wait for log_poll(). */
static void client_transfer(struct sqlite_client *client, uint64_t awaited, SocketFrame **answer)
{
    while (client->fd >= 0 && sqlite_buffer_size(&client->out) > 0) {
        ssize_t sent = sqlite_buffer_send(&client->out, client->fd);
        if (sent < 0)
            break; /* what the owner answered before it went is still to be read */
        if (sent == 0)
            break;
    }
    ssize_t got = 1;
    while (client->fd >= 0 && got > 0) {
        got = sqlite_buffer_receive(&client->in, client->fd, 64 * 1024);
        if (got > 0)
            client->heard_at = sqlite_monotonic_ms();
        SocketFrame *frame;
        enum sqlite_frame_result result = SQLITE_FRAME_GOT;
        while (client->fd >= 0 && result == SQLITE_FRAME_GOT) {
            result = sqlite_frame_get(&client->in, SQLITE_ANSWER_LIMIT, &frame);
            if (result != SQLITE_FRAME_GOT)
                break;
            if (!client->welcome && frame->id == client->hello)
                client_greeted(client, frame);
            else if (awaited != 0 && frame->id == awaited && answer != NULL && *answer == NULL)
                *answer = frame;
            else
                client_keep(client, frame);
        }
        if (got < 0 || result == SQLITE_FRAME_BAD)
            client_disconnect(client);
    }
}

static void client_wait(struct sqlite_client *client, int64_t timeout_ms)
{
    struct pollfd fds[2] = {{.fd = client->wake_fd, .events = POLLIN}, {.fd = client->fd, .events = POLLIN}};
    if (sqlite_buffer_size(&client->out) > 0)
        fds[1].events |= POLLOUT;
    if (timeout_ms < 0)
        timeout_ms = 0;
    poll(fds, client->fd >= 0 ? 2 : 1, timeout_ms > 60000 ? 60000 : (int)timeout_ms);
}

/* ---- without an owner ---- */

static enum sqlite_open_result client_open_db(struct sqlite_client *client, bool create, uint32_t partitions,
                                              struct sqlite_db **db)
{
    struct sqlite_open how = {.role = "client", .name = client->name, .create = create, .partitions = partitions};
    enum sqlite_open_result result = sqlite_db_open(&client->paths, &how, db, client->log.error,
                                                    sizeof client->log.error);
    client->log.error_exit = result == SQLITE_OPEN_MISSING ? 3 : 5;
    if (result == SQLITE_OPENED && !client_take_genesis(client, (*db)->genesis)) {
        client->wrong = true;
        client_fail(client, "another log is now in the file's place: open it anew");
        sqlite_db_close(*db);
        return SQLITE_OPEN_REFUSED;
    }
    return result;
}

/* Answers written into `buffer` as an owner would send them. */
static void client_keep_all(struct sqlite_client *client, struct sqlite_buffer *buffer)
{
    SocketFrame *frame;
    while (sqlite_frame_get(buffer, UINT32_MAX, &frame) == SQLITE_FRAME_GOT)
        client_keep(client, frame);
}

static void direct_submit(struct sqlite_client *client, struct sqlite_db *db, struct sqlite_buffer *answers)
{
    struct sqlite_batch batch;
    sqlite_batch_init(&batch);
    for (struct pending *pending = client->pending; pending != NULL; pending = pending->next) {
        struct sqlite_op *op = sqlite_batch_append(&batch, LOG_INBOX, pending->partition, NULL, pending->record,
                                                   pending->size, NULL);
        if (op == NULL)
            break;
        op->cookie = pending->frame;
        pending->sent_once = true;
    }
    /* When the disk is full they stay pending, until their deadline. */
    if (batch.first != NULL && sqlite_batch_write(db, &batch) == SQLITE_WRITTEN)
        for (const struct sqlite_op *op = batch.first; op != NULL; op = op->next)
            sqlite_frame_put_submitted(answers, op->cookie, op);
    else if (batch.first != NULL)
        client_fail(client, db->error);
    sqlite_batch_clear(&batch);
}

static void client_put_read(struct sqlite_client *client, uint32_t index, bool wait, struct sqlite_buffer *out,
                            struct sqlite_db *db)
{
    struct client_follower *follower = &client->followers[index];
    Perdure__V1__SocketRead read = PERDURE__V1__SOCKET_READ__INIT;
    read.stream = index & 1 ? LOG_INBOX : LOG_JOURNAL;
    read.partition = index / 2;
    read.from = follower->next;
    read.wait = wait && follower->told_end;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.id = follower->frame = ++client->last_frame;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_READ;
    frame.read = &read;
    if (!(db != NULL ? sqlite_serve(db, &frame, out) : sqlite_frame_put(out, &frame)))
        follower->frame = 0;
}

static bool client_has_work(const struct sqlite_client *client)
{
    bool work = client->pending != NULL;
    for (uint32_t i = 0; i < 2 * client->log.genesis.partitions; i++)
        work |= client->followers[i].active && client->followers[i].frame == 0;
    return work;
}

static void client_back_off(struct sqlite_client *client, int64_t most)
{
    client->backoff = client->backoff == 0 ? BACKOFF_FIRST_MS : client->backoff * 2;
    if (client->backoff > most)
        client->backoff = most;
    client->retry_at = sqlite_monotonic_ms() + client->backoff;
}

static void client_tell_unreachable(struct sqlite_client *client)
{
    int64_t now = sqlite_monotonic_ms();
    if (client->told_unreachable_at != 0 && now - client->told_unreachable_at < 5000)
        return;
    client->told_unreachable_at = now;
    if (client->log.handler.fault != NULL)
        client->log.handler.fault(client->log.handler.context, client->wrong ? LOG_FATAL : LOG_UNREACHABLE, LOG_ALL,
                                  client->log.error);
}

/* Everything that waits, in one operation under the lock. */
static void client_direct(struct sqlite_client *client)
{
    struct sqlite_db *db;
    enum sqlite_open_result opened = client_open_db(client, false, 0, &db);
    if (opened != SQLITE_OPENED) {
        if (opened != SQLITE_OPEN_BUSY)
            client_tell_unreachable(client);
        client_back_off(client, opened == SQLITE_OPEN_BUSY ? BACKOFF_MAX_MS : LOOK_MS);
        return;
    }
    struct sqlite_buffer answers = {0};
    direct_submit(client, db, &answers);
    for (uint32_t i = 0; i < 2 * client->log.genesis.partitions; i++)
        if (client->followers[i].active && client->followers[i].frame == 0)
            client_put_read(client, i, false, &answers, db);
    sqlite_db_close(db);
    client_keep_all(client, &answers);
    sqlite_buffer_free(&answers);
    client_back_off(client, LOOK_MS);
}

/* ---- questions ---- */

/* Over the socket. False: no answer this way. */
static bool call_owner(struct sqlite_client *client, SocketFrame *request, int64_t deadline, SocketFrame **answer)
{
    if (client->fd < 0 && !client_connect(client))
        return false;
    bool asked = false;
    client->heard_at = sqlite_monotonic_ms();
    while (client->fd >= 0 && *answer == NULL) {
        if (client->welcome && !asked)
            asked = sqlite_frame_put(&client->out, request);
        client_transfer(client, request->id, answer);
        int64_t now = sqlite_monotonic_ms();
        if (*answer != NULL || client->fd < 0)
            break;
        if (now > deadline || now - client->heard_at > SILENT_MS) {
            client_disconnect(client);
            break;
        }
        if (client->welcome && !asked)
            continue;
        struct pollfd fd = {.fd = client->fd, .events = POLLIN};
        if (sqlite_buffer_size(&client->out) > 0)
            fd.events |= POLLOUT;
        poll(&fd, 1, 100);
    }
    return *answer != NULL;
}

static enum sqlite_open_result call_direct(struct sqlite_client *client, SocketFrame *request, SocketFrame **answer)
{
    struct sqlite_db *db;
    enum sqlite_open_result opened = client_open_db(client, false, 0, &db);
    if (opened != SQLITE_OPENED)
        return opened;
    struct sqlite_buffer buffer = {0};
    if (!sqlite_serve(db, request, &buffer) || sqlite_frame_get(&buffer, UINT32_MAX, answer) != SQLITE_FRAME_GOT)
        client_fail(client, "out of memory");
    sqlite_db_close(db);
    sqlite_buffer_free(&buffer);
    return *answer != NULL ? SQLITE_OPENED : SQLITE_OPEN_REFUSED;
}

/* The answer, to be freed; NULL: client->log.error. */
static SocketFrame *client_call(struct sqlite_client *client, SocketFrame *request)
{
    int64_t deadline = sqlite_monotonic_ms() + CALL_MS, backoff = BACKOFF_FIRST_MS;
    SocketFrame *answer = NULL;
    request->id = ++client->last_frame;
    while (answer == NULL) {
        if (!call_owner(client, request, deadline, &answer)) {
            enum sqlite_open_result opened = call_direct(client, request, &answer);
            if (opened == SQLITE_OPEN_MISSING || opened == SQLITE_OPEN_REFUSED)
                return NULL;
        }
        if (answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE) {
            client_fail(client, answer->failure->message);
            sqlite_frame_free(answer);
            return NULL;
        }
        if (answer == NULL && sqlite_monotonic_ms() > deadline) {
            char text[480];
            snprintf(text, sizeof text, "%.400s, which does not answer", client->log.error);
            client_fail(client, text);
            return NULL;
        }
        if (answer == NULL) {
            usleep((useconds_t)backoff * 1000);
            backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
        }
    }
    return answer;
}

static int client_bounds(struct log *log, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end)
{
    Perdure__V1__SocketBounds bounds = PERDURE__V1__SOCKET_BOUNDS__INIT;
    bounds.stream = stream;
    bounds.partition = partition;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_BOUNDS;
    frame.bounds = &bounds;
    SocketFrame *answer = client_call(client_of(log), &frame);
    bool good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_RANGE;
    if (good) {
        *start = answer->range->start;
        *end = answer->range->end;
    }
    sqlite_frame_free(answer);
    return good ? LOG_OK : LOG_FAILED;
}

static int client_get_status(struct log *log, const char *key, void **data, size_t *size)
{
    Perdure__V1__SocketGetStatus get = PERDURE__V1__SOCKET_GET_STATUS__INIT;
    get.key = (char *)(uintptr_t)key;
    SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
    frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_GET_STATUS;
    frame.get_status = &get;
    SocketFrame *answer = client_call(client_of(log), &frame);
    int result = LOG_FAILED;
    if (answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_STATUSES) {
        result = LOG_NOT_FOUND;
        if (answer->statuses->n_statuses > 0) {
            const ProtobufCBinaryData *row = &answer->statuses->statuses[0]->row;
            *size = row->len;
            *data = malloc(row->len + 1);
            if (*data != NULL && row->len > 0)
                memcpy(*data, row->data, row->len);
            result = *data != NULL ? LOG_OK : client_fail(client_of(log), "out of memory");
        }
    }
    sqlite_frame_free(answer);
    return result;
}

static int client_each_status(struct log *log, const char *prefix,
                              bool (*visit)(void *context, const char *key, const void *data, size_t size),
                              void *context)
{
    char *after = strdup("");
    bool more = after != NULL, good = more;
    while (more) {
        Perdure__V1__SocketEachStatus each = PERDURE__V1__SOCKET_EACH_STATUS__INIT;
        each.prefix = (char *)(uintptr_t)(prefix != NULL ? prefix : "");
        each.after = after;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_EACH_STATUS;
        frame.each_status = &each;
        SocketFrame *answer = client_call(client_of(log), &frame);
        good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_STATUSES;
        more = good && answer->statuses->more && answer->statuses->n_statuses > 0;
        for (size_t i = 0; good && i < answer->statuses->n_statuses; i++) {
            const Perdure__V1__SocketStatus *status = answer->statuses->statuses[i];
            if (!visit(context, status->key, status->row.data, status->row.len)) {
                more = false;
                break;
            }
        }
        if (more) {
            free(after);
            after = strdup(answer->statuses->statuses[answer->statuses->n_statuses - 1]->key);
            more = after != NULL;
        }
        sqlite_frame_free(answer);
    }
    free(after);
    return good ? LOG_OK : LOG_FAILED;
}

static int client_history(struct log *log, uint32_t partition, const char *job, uint64_t run,
                          bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context)
{
    bool more = true, good = true;
    int64_t from = 0;
    while (more) {
        Perdure__V1__SocketHistory history = PERDURE__V1__SOCKET_HISTORY__INIT;
        history.partition = partition;
        history.job = (char *)(uintptr_t)job;
        history.run = run;
        history.from = from;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_HISTORY;
        frame.history = &history;
        SocketFrame *answer = client_call(client_of(log), &frame);
        good = answer != NULL && answer->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_ROWS;
        more = good && answer->rows->more;
        for (size_t i = 0; good && i < answer->rows->n_rows; i++) {
            const Perdure__V1__SocketRow *row = answer->rows->rows[i];
            if (!visit(context, row->offset, row->record.data, row->record.len)) {
                more = false;
                break;
            }
        }
        from = good ? answer->rows->next : 0;
        sqlite_frame_free(answer);
    }
    return good ? LOG_OK : LOG_FAILED;
}

/* ---- appending and following ---- */

static int client_append(struct log *log, enum log_stream stream, uint32_t partition, const struct log_message *message,
                         uint64_t cookie)
{
    struct sqlite_client *client = client_of(log);
    if (client->read_only || stream != LOG_INBOX)
        return client_fail(client, client->read_only ? "the log was opened for reading only"
                                                     : "only the log's owner writes the journal");
    if (partition >= log->genesis.partitions)
        return client_fail(client, "no such partition");
    if (message->size > RECORD_LIMIT_BYTES)
        return client_fail(client, "the record is larger than 1,000,000 bytes");
    if (client->pending_count >= PENDING_LIMIT)
        return LOG_FULL;
    struct pending *pending = malloc(sizeof *pending + message->size);
    if (pending == NULL)
        return client_fail(client, "out of memory");
    *pending = (struct pending){.frame = ++client->last_frame, .cookie = cookie, .partition = partition,
                                .deadline = sqlite_monotonic_ms() + APPEND_DEADLINE_MS, .size = message->size};
    memcpy(pending->record, message->data, message->size);
    *client->pending_last = pending;
    client->pending_last = &pending->next;
    client->pending_count++;
    if (client->fd < 0)
        client->retry_at = 0; /* something to do now */
    return LOG_OK;
}

static int client_follow(struct log *log, enum log_stream stream, uint32_t partition, int64_t from)
{
    struct sqlite_client *client = client_of(log);
    if (partition >= log->genesis.partitions)
        return client_fail(client, "no such partition");
    struct client_follower *follower = &client->followers[2 * partition + (stream == LOG_INBOX)];
    *follower = (struct client_follower){.active = true, .generation = follower->generation + 1, .next = from};
    if (client->fd < 0)
        client->retry_at = 0;
    return LOG_OK;
}

static int client_unfollow(struct log *log, enum log_stream stream, uint32_t partition)
{
    struct sqlite_client *client = client_of(log);
    if (partition >= log->genesis.partitions)
        return client_fail(client, "no such partition");
    struct client_follower *follower = &client->followers[2 * partition + (stream == LOG_INBOX)];
    *follower = (struct client_follower){.generation = follower->generation + 1};
    return LOG_OK;
}

/* ---- telling ---- */

static void pending_remove(struct sqlite_client *client, struct pending **at)
{
    struct pending *gone = *at;
    *at = gone->next;
    if (client->pending_last == &gone->next)
        client->pending_last = at;
    client->pending_count--;
    free(gone);
}

static void tell_submitted(struct sqlite_client *client, const SocketFrame *frame)
{
    struct pending **at = &client->pending;
    while (*at != NULL && (*at)->frame != frame->id)
        at = &(*at)->next;
    if (*at == NULL)
        return; /* its deadline had passed */
    uint64_t cookie = (*at)->cookie;
    enum log_delivery delivery = LOG_PERSISTED;
    int64_t offset = -1;
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_SUBMITTED) {
        offset = frame->submitted->offset;
    } else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE &&
               frame->failure->code != SQLITE_FAILURE_BROKEN) {
        client_fail(client, frame->failure->message);
        delivery = LOG_NOT_PERSISTED;
    } else {
        client_disconnect(client); /* goes again */
        return;
    }
    pending_remove(client, at);
    if (client->log.handler.delivered != NULL)
        client->log.handler.delivered(client->log.handler.context, cookie, delivery, offset);
}

static void tell_fault(struct sqlite_client *client, struct client_follower *follower, enum log_fault fault,
                       uint32_t partition, const char *message)
{
    follower->active = false;
    if (client->log.handler.fault != NULL)
        client->log.handler.fault(client->log.handler.context, fault, partition, message);
}

static void tell_rows(struct sqlite_client *client, uint32_t index, const Perdure__V1__SocketRows *rows)
{
    struct client_follower *follower = &client->followers[index];
    const struct log_handler *handler = &client->log.handler;
    enum log_stream stream = index & 1 ? LOG_INBOX : LOG_JOURNAL;
    uint32_t generation = follower->generation, partition = index / 2;
    if (follower->next < rows->start || follower->next > rows->end) {
        bool below = follower->next < rows->start;
        tell_fault(client, follower, below ? LOG_OUT_OF_RANGE : LOG_TRUNCATED, partition,
                   below ? "asked for records below the log's start" : "asked for records beyond the log's end");
        return;
    }
    for (size_t i = 0; i < rows->n_rows && follower->active && follower->generation == generation; i++) {
        const Perdure__V1__SocketRow *row = rows->rows[i];
        struct log_record record = {.stream = stream, .partition = partition, .offset = row->offset,
                                    .append_ms = row->append_ms, .leader_epoch = -1, .data = row->record.data,
                                    .size = row->record.len};
        follower->next = row->offset + 1;
        if (handler->record != NULL)
            handler->record(handler->context, &record);
    }
    if (!follower->active || follower->generation != generation)
        return;
    follower->next = rows->next;
    if (rows->more)
        return;
    bool tell = !follower->told_end || rows->n_rows > 0;
    follower->told_end = true;
    if (tell && handler->end != NULL)
        handler->end(handler->context, stream, partition, rows->next);
}

static void tell_frame(struct sqlite_client *client, const SocketFrame *frame)
{
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_REPLY) {
        if (client->log.handler.reply != NULL)
            client->log.handler.reply(client->log.handler.context, frame->reply);
        return;
    }
    for (uint32_t i = 0; frame->id != 0 && i < 2 * client->log.genesis.partitions; i++) {
        struct client_follower *follower = &client->followers[i];
        if (follower->frame != frame->id || !follower->active)
            continue;
        follower->frame = 0;
        if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_ROWS)
            tell_rows(client, i, frame->rows);
        else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE)
            tell_fault(client, follower, LOG_FATAL, i / 2, frame->failure->message);
        return;
    }
    tell_submitted(client, frame);
}

static bool client_tell(struct sqlite_client *client)
{
    bool told = false;
    while (client->arrived != NULL) {
        struct arrived *arrived = client->arrived;
        client->arrived = arrived->next;
        if (client->arrived == NULL)
            client->arrived_last = &client->arrived;
        tell_frame(client, arrived->frame);
        sqlite_frame_free(arrived->frame);
        free(arrived);
        told = true;
    }
    return told;
}

/* Appends whose deadline has passed: in doubt if they were ever sent. */
static bool client_expire(struct sqlite_client *client, int64_t now)
{
    bool told = false;
    for (struct pending **at = &client->pending; *at != NULL;) {
        if ((*at)->deadline > now) {
            at = &(*at)->next;
            continue;
        }
        uint64_t cookie = (*at)->cookie;
        enum log_delivery delivery = (*at)->sent_once ? LOG_POSSIBLY_PERSISTED : LOG_NOT_PERSISTED;
        pending_remove(client, at);
        told = true;
        if (client->log.handler.delivered != NULL)
            client->log.handler.delivered(client->log.handler.context, cookie, delivery, -1);
        at = &client->pending;
    }
    return told;
}

/* ---- polling ---- */

static void client_send_work(struct sqlite_client *client)
{
    for (struct pending *pending = client->pending; pending != NULL; pending = pending->next) {
        if (pending->sent || sqlite_buffer_size(&client->out) > 1024 * 1024)
            continue;
        Perdure__V1__SocketSubmit submit = PERDURE__V1__SOCKET_SUBMIT__INIT;
        submit.partition = pending->partition;
        submit.record.data = (uint8_t *)pending->record;
        submit.record.len = pending->size;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.id = pending->frame;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_SUBMIT;
        frame.submit = &submit;
        if (!sqlite_frame_put(&client->out, &frame))
            return;
        pending->sent = pending->sent_once = true;
        client->heard_at = sqlite_monotonic_ms(); /* from now on we wait for an answer */
    }
    for (uint32_t i = 0; i < 2 * client->log.genesis.partitions; i++)
        if (client->followers[i].active && client->followers[i].frame == 0)
            client_put_read(client, i, true, &client->out, NULL);
}

/* Whatever can be done now without waiting. */
static void client_progress(struct sqlite_client *client)
{
    int64_t now = sqlite_monotonic_ms();
    if (client->wrong)
        return;
    if (client->fd >= 0 && ((!client->welcome && now - client->heard_at > SILENT_MS) ||
                            (client->pending != NULL && now - client->heard_at > SUBMIT_SILENT_MS)))
        client_disconnect(client);
    if (client->fd < 0 && now >= client->retry_at && !client_connect(client)) {
        if (client_has_work(client))
            client_direct(client);
        else
            client_back_off(client, LOOK_MS);
    }
    if (client->fd >= 0 && client->welcome)
        client_send_work(client);
    if (client->fd >= 0) {
        client_transfer(client, 0, NULL);
        /* Gone before it answered: the next look finds another owner, or none. */
        if (client->fd < 0)
            client_back_off(client, BACKOFF_MAX_MS);
        else if (client->welcome && client_has_work(client))
            client_send_work(client), client_transfer(client, 0, NULL);
    }
}

static int64_t client_patience(const struct sqlite_client *client, int64_t deadline, int64_t now)
{
    if (client->fd < 0 && client->retry_at < deadline)
        deadline = client->retry_at;
    if (client->fd >= 0 && !client->welcome && client->heard_at + SILENT_MS < deadline)
        deadline = client->heard_at + SILENT_MS + 1;
    for (const struct pending *pending = client->pending; pending != NULL; pending = pending->next)
        if (pending->deadline < deadline)
            deadline = pending->deadline;
    return deadline > now ? deadline - now : 0;
}

static int client_poll(struct log *log, int timeout_ms)
{
    struct sqlite_client *client = client_of(log);
    if (client->pid != getpid())
        return client_fail(client, "a forked child cannot use its parent's log");
    if (client->wrong) {
        client_tell_unreachable(client);
        return LOG_FAILED;
    }
    int64_t now = sqlite_monotonic_ms(), deadline = timeout_ms < 0 ? INT64_MAX : now + timeout_ms;
    uint64_t woken;
    for (;;) {
        bool told = client_tell(client);
        client_progress(client);
        told |= client_tell(client);
        now = sqlite_monotonic_ms();
        told |= client_expire(client, now);
        if (read(client->wake_fd, &woken, sizeof woken) > 0 || told || now >= deadline)
            return LOG_OK;
        client_wait(client, client_patience(client, deadline, now));
    }
}

static int client_flush(struct log *log) { return client_poll(log, 0); }

static void client_wake(struct log *log)
{
    uint64_t one = 1;
    if (write(client_of(log)->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

static int client_reply_address(struct log *log, ReplyTo *to)
{
    to->partition = 0;
    to->client = client_of(log)->id;
    return LOG_OK;
}

/* ---- what only an owner does ---- */

static int client_trim(struct log *log, enum log_stream stream, uint32_t partition, int64_t below)
{
    (void)stream;
    (void)partition;
    (void)below;
    return client_fail(client_of(log), "only the log's owner trims it");
}

static int client_join(struct log *log) { return client_fail(client_of(log), "a client owns nothing"); }

static int client_leave(struct log *log, bool for_good)
{
    (void)for_good;
    return client_fail(client_of(log), "a client owns nothing");
}

static int client_put_status(struct log *log, const char *key, const void *data, size_t size)
{
    (void)key;
    (void)data;
    (void)size;
    return client_fail(client_of(log), "only the log's owner writes statuses");
}

static int client_reply(struct log *log, const ReplyTo *to, const Reply *reply)
{
    (void)to;
    (void)reply;
    return client_fail(client_of(log), "only the log's owner answers");
}

static int client_dead(struct log *log, const struct log_record *record, const char *reason)
{
    (void)record;
    (void)reason;
    return client_fail(client_of(log), "only the log's owner writes dead letters");
}

static void client_close(struct log *log)
{
    struct sqlite_client *client = client_of(log);
    client_disconnect(client);
    if (client->wake_fd >= 0)
        close(client->wake_fd);
    while (client->pending != NULL)
        pending_remove(client, &client->pending);
    while (client->arrived != NULL) {
        struct arrived *arrived = client->arrived;
        client->arrived = arrived->next;
        sqlite_frame_free(arrived->frame);
        free(arrived);
    }
    sqlite_buffer_free(&client->in);
    sqlite_buffer_free(&client->out);
    if (client->followers != NULL)
        free(client->log.genesis.namespace_);
    free(client->followers);
    free(client->name);
    free(client);
}

static const struct log_operations client_operations = {
    .name = "sqlite",
    .append = client_append,
    .flush = client_flush,
    .follow = client_follow,
    .unfollow = client_unfollow,
    .bounds = client_bounds,
    .trim = client_trim,
    .join = client_join,
    .leave = client_leave,
    .put_status = client_put_status,
    .get_status = client_get_status,
    .each_status = client_each_status,
    .reply = client_reply,
    .dead = client_dead,
    .history = client_history,
    .poll = client_poll,
    .wake = client_wake,
    .close = client_close,
    .reply_address = client_reply_address,
};

/* ---- opening ---- */

/* From the owner, or from the file. SQLITE_OPEN_BUSY: neither, until the deadline. */
static enum sqlite_open_result client_begin(struct sqlite_client *client, bool create, uint32_t partitions)
{
    int64_t deadline = sqlite_monotonic_ms() + CALL_MS;
    for (int64_t backoff = BACKOFF_FIRST_MS;; backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2) {
        struct sqlite_db *db;
        if (client->fd < 0)
            client_connect(client);
        while (client->fd >= 0 && !client->welcome) {
            client_transfer(client, 0, NULL);
            if (client->fd >= 0 && !client->welcome && sqlite_monotonic_ms() - client->heard_at > SILENT_MS)
                client_disconnect(client);
            else if (!client->welcome)
                client_wait(client, 100);
        }
        if (client->welcome)
            return SQLITE_OPENED;
        enum sqlite_open_result opened = client_open_db(client, create, partitions, &db);
        if (opened == SQLITE_OPENED)
            sqlite_db_close(db);
        if (opened != SQLITE_OPEN_BUSY || sqlite_monotonic_ms() > deadline)
            return opened;
        usleep((useconds_t)backoff * 1000);
    }
}

int sqlite_client_open(const struct sqlite_paths *paths, const struct log_options *options, uint32_t partitions,
                       struct log **out, char *error, size_t error_size)
{
    struct sqlite_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        snprintf(error, error_size, "sqlite:%s: out of memory", paths->database);
        return 5;
    }
    client->log.operations = &client_operations;
    client->paths = *paths;
    client->name = strdup(options->client_name != NULL ? options->client_name : "client");
    client->read_only = options->read_only;
    client->pid = getpid();
    client->fd = -1;
    client->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    client->pending_last = &client->pending;
    client->arrived_last = &client->arrived;
    while (client->id == 0)
        if (getrandom(&client->id, sizeof client->id, 0) != sizeof client->id)
            client->id = 0;
    enum sqlite_open_result opened = client_begin(client, options->create && !options->read_only, partitions);
    if (opened == SQLITE_OPENED) {
        *out = &client->log;
        return LOG_OK;
    }
    snprintf(error, error_size, "%s%s", client->log.error,
             opened == SQLITE_OPEN_BUSY ? ", which does not answer" : "");
    if (opened == SQLITE_OPEN_MISSING)
        snprintf(error, error_size, "sqlite:%s: there is no log: `perdure dev` or `perdure worker` begins one",
                 paths->database);
    client_close(&client->log);
    return opened == SQLITE_OPEN_BUSY ? LOG_BUSY : opened == SQLITE_OPEN_MISSING ? 3 : 5;
}
