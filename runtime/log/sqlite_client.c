/*
 * The embedded log as a client has it (rule 28): it asks the file's owner over the socket; while there is none it takes
 * the lock itself for one operation. A request that got no answer goes again with the same request id until its
 * deadline, by whichever way is open then.
 */
#define _GNU_SOURCE
#include "log/sqlite_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define SUBMIT_SILENT_MS 10000 /* commits may wait for a full disk */
#define LOOK_MS 500            /* no owner and nothing to do but wait for one */
#define PENDING_LIMIT 5000

int sqlite_client_fail(struct sqlite_client *client, const char *message)
{
    if (message != client->log.error)
        snprintf(client->log.error, sizeof client->log.error, "%s", message);
    client->log.error_exit = 5;
    return LOG_FAILED;
}

bool sqlite_client_take_genesis(struct sqlite_client *client, const Genesis *genesis)
{
    if (client->followers != NULL)
        return client->log.genesis.log_id == genesis->log_id;
    client->log.genesis = *genesis;
    client->log.genesis.namespace_ = strdup(genesis->namespace_);
    client->followers = calloc(2 * (size_t)genesis->partitions, sizeof *client->followers);
    return client->log.genesis.namespace_ != NULL && client->followers != NULL;
}

/* ---- without an owner ---- */

enum sqlite_open_result sqlite_client_open_db(struct sqlite_client *client, bool create, uint32_t partitions,
                                              struct sqlite_db **db)
{
    struct sqlite_open how = {.role = "client", .name = client->name, .create = create, .partitions = partitions};
    enum sqlite_open_result result = sqlite_db_open(&client->paths, &how, db, client->log.error,
                                                    sizeof client->log.error);
    client->log.error_exit = result == SQLITE_OPEN_MISSING ? 3 : 5;
    if (result == SQLITE_OPENED && !sqlite_client_take_genesis(client, (*db)->genesis)) {
        client->wrong = true;
        sqlite_client_fail(client, "another log is now in the file's place: open it anew");
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
        sqlite_client_keep(client, frame);
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
        sqlite_client_fail(client, db->error);
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
    enum sqlite_open_result opened = sqlite_client_open_db(client, false, 0, &db);
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

/* ---- appending and following ---- */

static int client_append(struct log *log, enum log_stream stream, uint32_t partition, const struct log_message *message,
                         uint64_t cookie)
{
    struct sqlite_client *client = sqlite_client_of(log);
    if (client->read_only || stream != LOG_INBOX)
        return sqlite_client_fail(client, client->read_only ? "the log was opened for reading only"
                                  : "only the log's owner writes the journal");
    if (partition >= log->genesis.partitions)
        return sqlite_client_fail(client, "no such partition");
    if (message->size > RECORD_LIMIT_BYTES)
        return sqlite_client_fail(client, "the record is larger than 1,000,000 bytes");
    if (client->pending_count >= PENDING_LIMIT)
        return LOG_FULL;
    struct pending *pending = malloc(sizeof *pending + message->size);
    if (pending == NULL)
        return sqlite_client_fail(client, "out of memory");
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
    struct sqlite_client *client = sqlite_client_of(log);
    if (partition >= log->genesis.partitions)
        return sqlite_client_fail(client, "no such partition");
    struct client_follower *follower = &client->followers[2 * partition + (stream == LOG_INBOX)];
    *follower = (struct client_follower){.active = true, .generation = follower->generation + 1, .next = from};
    if (client->fd < 0)
        client->retry_at = 0;
    return LOG_OK;
}

static int client_unfollow(struct log *log, enum log_stream stream, uint32_t partition)
{
    struct sqlite_client *client = sqlite_client_of(log);
    if (partition >= log->genesis.partitions)
        return sqlite_client_fail(client, "no such partition");
    struct client_follower *follower = &client->followers[2 * partition + (stream == LOG_INBOX)];
    *follower = (struct client_follower){.generation = follower->generation + 1};
    return LOG_OK;
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

/* For what was sent: an owner may be silent for hours while nobody asks it anything. */
static bool client_waits(const struct sqlite_client *client)
{
    for (const struct pending *pending = client->pending; pending != NULL; pending = pending->next)
        if (pending->sent)
            return true;
    return false;
}

/* Whatever can be done now without waiting. */
static void client_progress(struct sqlite_client *client)
{
    int64_t now = sqlite_monotonic_ms();
    if (client->wrong)
        return;
    if (client->fd >= 0 && ((!client->welcome && now - client->heard_at > SILENT_MS) ||
                            (now - client->heard_at > SUBMIT_SILENT_MS && client_waits(client))))
        sqlite_client_disconnect(client);
    if (client->fd < 0 && now >= client->retry_at && !sqlite_client_connect(client)) {
        if (client_has_work(client))
            client_direct(client);
        else
            client_back_off(client, LOOK_MS);
    }
    if (client->fd >= 0 && client->welcome)
        client_send_work(client);
    if (client->fd >= 0) {
        sqlite_client_transfer(client, 0, NULL);
        /* Gone before it answered: the next look finds another owner, or none. */
        if (client->fd < 0)
            client_back_off(client, BACKOFF_MAX_MS);
        else if (client->welcome && client_has_work(client))
            client_send_work(client), sqlite_client_transfer(client, 0, NULL);
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
    struct sqlite_client *client = sqlite_client_of(log);
    if (client->pid != getpid())
        return sqlite_client_fail(client, "a forked child cannot use its parent's log");
    if (client->wrong) {
        client_tell_unreachable(client);
        return LOG_FAILED;
    }
    int64_t now = sqlite_monotonic_ms(), deadline = timeout_ms < 0 ? INT64_MAX : now + timeout_ms;
    uint64_t woken;
    for (;;) {
        bool told = sqlite_client_tell(client);
        client_progress(client);
        told |= sqlite_client_tell(client);
        now = sqlite_monotonic_ms();
        told |= sqlite_client_expire(client, now);
        if (read(client->wake_fd, &woken, sizeof woken) > 0 || told || now >= deadline)
            return LOG_OK;
        sqlite_client_wait(client, client_patience(client, deadline, now));
    }
}

static int client_flush(struct log *log) { return client_poll(log, 0); }

static void client_wake(struct log *log)
{
    uint64_t one = 1;
    if (write(sqlite_client_of(log)->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

static int client_reply_address(struct log *log, ReplyTo *to)
{
    to->partition = 0;
    to->client = sqlite_client_of(log)->id;
    return LOG_OK;
}

/* ---- what only an owner does ---- */

static int client_trim(struct log *log, enum log_stream stream, uint32_t partition, int64_t below)
{
    (void)stream;
    (void)partition;
    (void)below;
    return sqlite_client_fail(sqlite_client_of(log), "only the log's owner trims it");
}

static int client_join(struct log *log) { return sqlite_client_fail(sqlite_client_of(log), "a client owns nothing"); }

static int client_leave(struct log *log, bool for_good)
{
    (void)for_good;
    return sqlite_client_fail(sqlite_client_of(log), "a client owns nothing");
}

static int client_put_status(struct log *log, const char *key, const void *data, size_t size,
                             const struct log_place *of)
{
    (void)key;
    (void)data;
    (void)size;
    (void)of;
    return sqlite_client_fail(sqlite_client_of(log), "only the log's owner writes statuses");
}

static int client_reply(struct log *log, const ReplyTo *to, const Reply *reply)
{
    (void)to;
    (void)reply;
    return sqlite_client_fail(sqlite_client_of(log), "only the log's owner answers");
}

static int client_dead(struct log *log, const struct log_record *record, const char *reason)
{
    (void)record;
    (void)reason;
    return sqlite_client_fail(sqlite_client_of(log), "only the log's owner writes dead letters");
}

static void client_close(struct log *log)
{
    struct sqlite_client *client = sqlite_client_of(log);
    sqlite_client_disconnect(client);
    if (client->wake_fd >= 0)
        close(client->wake_fd);
    while (client->pending != NULL)
        sqlite_client_drop_pending(client, &client->pending);
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
    .bounds = sqlite_client_bounds,
    .trim = client_trim,
    .join = client_join,
    .leave = client_leave,
    .put_status = client_put_status,
    .get_status = sqlite_client_get_status,
    .each_status = sqlite_client_each_status,
    .reply = client_reply,
    .dead = client_dead,
    .history = sqlite_client_history,
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
            sqlite_client_connect(client);
        while (client->fd >= 0 && !client->welcome) {
            sqlite_client_transfer(client, 0, NULL);
            if (client->fd >= 0 && !client->welcome && sqlite_monotonic_ms() - client->heard_at > SILENT_MS)
                sqlite_client_disconnect(client);
            else if (!client->welcome)
                sqlite_client_wait(client, 100);
        }
        if (client->welcome)
            return SQLITE_OPENED;
        enum sqlite_open_result opened = sqlite_client_open_db(client, create, partitions, &db);
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
