/*
 * The owner's side of the socket (rules 27, 28; H29, H30, H31).
 */
#define _GNU_SOURCE
#include "log/sqlite_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/fork_guard.h"

#define CONNECTIONS_LIMIT 1024
#define PARKED_LIMIT 64
#define SLOW_MS 10000                       /* no greeting, half a frame, unread answers: dropped after so long */
#define OUTPUT_PAUSE (2 * 1024 * 1024)      /* with so much unsent, no further request is read */
#define OUTPUT_LIMIT (32 * 1024 * 1024)     /* with so much unsent (pushed replies), dropped */
#define QUEUE_PAUSE (32 * 1024 * 1024)      /* with so much uncommitted (disk full), nobody is read */
#define READ_BYTES (64 * 1024)
#define READS_A_ROUND 4

struct sqlite_connection {
    uint64_t id; /* generation << 32 | slot */
    int fd;
    uint32_t events;
    bool welcome, gone;
    uint64_t client;
    struct sqlite_buffer in, out;
    int64_t stuck_since; /* 0: neither half a frame nor unsent bytes */
    SocketFrame *parked[PARKED_LIMIT];
    size_t parked_count;
};

/* ---- addresses ---- */

socklen_t sqlite_socket_beside(const struct sqlite_paths *paths, int *folder_fd, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    *folder_fd = open(paths->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%.80s", *folder_fd, paths->socket_name);
    return sizeof *address;
}

socklen_t sqlite_socket_elsewhere(const struct sqlite_paths *paths, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, paths->socket_elsewhere, sizeof address->sun_path);
    address->sun_path[sizeof address->sun_path - 1] = '\0';
    return sizeof *address;
}

/* ---- opening ---- */

/* Whoever may write the database may connect. */
static void server_permit(const struct sqlite_paths *paths, const char *socket_path)
{
    struct stat database;
    if (stat(paths->database, &database) != 0)
        return; /* the owner's own user still can */
    mode_t mode = database.st_mode & 0666;
    if (chown(socket_path, (uid_t)-1, database.st_gid) != 0)
        mode &= (mode_t)~0060; /* else the group would be another one */
    (void)!chmod(socket_path, mode);
}

static int server_bind(struct sqlite_server *server)
{
    struct sockaddr_un address;
    int folder_fd;
    socklen_t length = sqlite_socket_beside(&server->db->paths, &folder_fd, &address);
    unlink(address.sun_path); /* under the lock: whoever bound it is gone */
    int result = bind(server->listen_fd, (struct sockaddr *)&address, length);
    if (result == 0) {
        server_permit(&server->db->paths, address.sun_path);
    } else { /* a file system without sockets, as some shared folders of containers are */
        length = sqlite_socket_elsewhere(&server->db->paths, &address);
        unlink(address.sun_path);
        result = bind(server->listen_fd, (struct sockaddr *)&address, length);
        if (result == 0) {
            server_permit(&server->db->paths, address.sun_path);
            memcpy(server->socket_path, address.sun_path, sizeof server->socket_path);
        }
    }
    if (folder_fd >= 0)
        close(folder_fd);
    return result;
}

static int server_watch(struct sqlite_server *server, int fd, uint64_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

#define TAG_LISTEN UINT64_MAX
#define TAG_WAKE (UINT64_MAX - 1)

int sqlite_server_open(struct sqlite_server *server, struct sqlite_db *db, struct sqlite_batch *batch, char *error,
                       size_t error_size)
{
    memset(server, 0, sizeof *server);
    server->db = db;
    server->batch = batch;
    server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const int fds[] = {server->listen_fd, server->epoll_fd, server->wake_fd};
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            fork_guard(fds[i]);
    if (server->listen_fd < 0 || server->epoll_fd < 0 || server->wake_fd < 0 || server_bind(server) != 0 ||
        listen(server->listen_fd, 128) != 0 || server_watch(server, server->listen_fd, TAG_LISTEN) != 0 ||
        server_watch(server, server->wake_fd, TAG_WAKE) != 0) {
        snprintf(error, error_size, "sqlite:%s: its socket %s/%s: %s", db->paths.database, db->paths.folder,
                 db->paths.socket_name, strerror(errno));
        sqlite_server_close(server);
        return -1;
    }
    return 0;
}

/* ---- connections ---- */

static void close_guarded(int fd)
{
    if (fd < 0)
        return;
    fork_release(fd);
    close(fd);
}

static struct sqlite_connection *connection_of(struct sqlite_server *server, uint64_t id)
{
    size_t slot = id & UINT32_MAX;
    struct sqlite_connection *connection = slot < server->slot_count ? server->slots[slot] : NULL;
    return connection != NULL && connection->id == id && !connection->gone ? connection : NULL;
}

static void connection_free(struct sqlite_server *server, struct sqlite_connection *connection)
{
    server->slots[connection->id & UINT32_MAX] = NULL;
    server->connections--;
    server->parked -= connection->parked_count;
    for (size_t i = 0; i < connection->parked_count; i++)
        sqlite_frame_free(connection->parked[i]);
    close_guarded(connection->fd);
    sqlite_buffer_free(&connection->in);
    sqlite_buffer_free(&connection->out);
    free(connection);
}

static struct sqlite_connection *connection_new(struct sqlite_server *server, int fd)
{
    size_t slot = 0;
    while (slot < server->slot_count && server->slots[slot] != NULL)
        slot++;
    if (slot == server->slot_count) {
        size_t count = server->slot_count ? server->slot_count * 2 : 16;
        struct sqlite_connection **grown = realloc(server->slots, count * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        memset(grown + server->slot_count, 0, (count - server->slot_count) * sizeof(*grown));
        server->slots = grown;
        server->slot_count = count;
    }
    struct sqlite_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    server->generation = (server->generation + 1) & 0x7fffffff; /* ids are never 0 nor a tag */
    if (server->generation == 0)
        server->generation = 1;
    connection->id = (uint64_t)server->generation << 32 | slot;
    connection->fd = fd;
    connection->events = EPOLLIN;
    connection->stuck_since = sqlite_monotonic_ms();
    server->slots[slot] = connection;
    server->connections++;
    return connection;
}

static void server_accept(struct sqlite_server *server)
{
    for (int i = 0; i < 64; i++) {
        int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) /* else it would be told at once, again */
                server->deaf = epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, server->listen_fd, NULL) == 0;
            return;
        }
        fork_guard(fd);
        struct sqlite_connection *connection =
            server->connections < CONNECTIONS_LIMIT ? connection_new(server, fd) : NULL;
        if (connection == NULL)
            close_guarded(fd);
        else if (server_watch(server, fd, connection->id) != 0)
            connection_free(server, connection);
    }
}

static bool server_is_choked(const struct sqlite_server *server) { return server->batch->bytes > QUEUE_PAUSE; }

static void connection_interest(struct sqlite_server *server, struct sqlite_connection *connection)
{
    size_t unsent = sqlite_buffer_size(&connection->out);
    uint32_t events = unsent > 0 ? EPOLLOUT : 0;
    if (unsent < OUTPUT_PAUSE && connection->parked_count < PARKED_LIMIT && !server_is_choked(server))
        events |= EPOLLIN;
    if (events == connection->events)
        return;
    struct epoll_event event = {.events = events, .data.u64 = connection->id};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) == 0)
        connection->events = events;
}

static void connection_send(struct sqlite_server *server, struct sqlite_connection *connection)
{
    while (!connection->gone && sqlite_buffer_size(&connection->out) > 0) {
        ssize_t sent = sqlite_buffer_send(&connection->out, connection->fd);
        if (sent < 0)
            connection->gone = true;
        if (sent <= 0)
            break;
        connection->stuck_since = 0;
    }
    if (sqlite_buffer_size(&connection->out) > OUTPUT_LIMIT)
        connection->gone = true;
    if (sqlite_buffer_size(&connection->out) > 0 && connection->stuck_since == 0)
        connection->stuck_since = sqlite_monotonic_ms();
    if (!connection->gone)
        connection_interest(server, connection);
}

/* ---- requests ---- */

/* H30: both must mean the same file and the same log. */
static void connection_hello(struct sqlite_server *server, struct sqlite_connection *connection,
                             const SocketFrame *frame)
{
    const Perdure__V1__SocketHello *hello = frame->hello;
    struct sqlite_db *db = server->db;
    struct stat here;
    if (!sqlite_db_in_place(db)) {
        sqlite_frame_put_failure(&connection->out, frame->id, SQLITE_FAILURE_BROKEN, db->error);
        return;
    }
    if (stat(db->paths.database, &here) != 0 || here.st_ino != hello->inode || here.st_dev != hello->device ||
        (hello->log_id != 0 && hello->log_id != db->genesis->log_id)) {
        sqlite_frame_put_failure(&connection->out, frame->id, SQLITE_FAILURE_OTHER_FILE,
                                 "the owner has another file open than the client sees, or another log");
        return;
    }
    connection->welcome = true;
    connection->client = hello->client;
    if (!sqlite_frame_put_welcome(&connection->out, frame->id, db->genesis, (int)getpid()))
        connection->gone = true;
}

static void connection_submit(struct sqlite_server *server, struct sqlite_connection *connection,
                              const SocketFrame *frame)
{
    const Perdure__V1__SocketSubmit *submit = frame->submit;
    if (submit->partition >= server->db->genesis->partitions) {
        sqlite_frame_put_failure(&connection->out, frame->id, SQLITE_FAILURE_MALFORMED, "no such partition");
        return;
    }
    struct sqlite_op *op = sqlite_batch_append(server->batch, LOG_INBOX, submit->partition, NULL, submit->record.data,
                                               submit->record.len, NULL);
    if (op == NULL) {
        connection->gone = true; /* no memory: it comes again with the same request id */
        return;
    }
    op->connection = connection->id;
    op->cookie = frame->id;
    if (op->client != 0)
        connection->client = op->client;
}

/* True: the frame is kept. */
static bool connection_request(struct sqlite_server *server, struct sqlite_connection *connection, SocketFrame *frame)
{
    if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_HELLO) {
        connection_hello(server, connection, frame);
    } else if (!connection->welcome) {
        connection->gone = true;
    } else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_SUBMIT) {
        connection_submit(server, connection, frame);
    } else if (sqlite_serve_must_wait(server->db, frame) && connection->parked_count < PARKED_LIMIT) {
        connection->parked[connection->parked_count++] = frame;
        server->parked++;
        return true;
    } else if (!sqlite_serve(server->db, frame, &connection->out)) {
        connection->gone = true;
    }
    return false;
}

/* Complete frames in the buffer, until its answers pile up. */
static void connection_requests(struct sqlite_server *server, struct sqlite_connection *connection)
{
    while (!connection->gone && sqlite_buffer_size(&connection->out) < OUTPUT_PAUSE && !server_is_choked(server) &&
           connection->parked_count < PARKED_LIMIT) {
        SocketFrame *frame;
        enum sqlite_frame_result got = sqlite_frame_get(&connection->in, SQLITE_REQUEST_LIMIT, &frame);
        if (got == SQLITE_FRAME_PARTIAL) {
            if (sqlite_buffer_size(&connection->in) == 0 && sqlite_buffer_size(&connection->out) == 0 &&
                connection->welcome)
                connection->stuck_since = 0;
            else if (connection->stuck_since == 0)
                connection->stuck_since = sqlite_monotonic_ms();
            return;
        }
        if (got == SQLITE_FRAME_BAD) {
            connection->gone = true;
            return;
        }
        if (!connection_request(server, connection, frame))
            sqlite_frame_free(frame);
        else
            continue;
    }
}

static void connection_receive(struct sqlite_server *server, struct sqlite_connection *connection)
{
    for (int i = 0; i < READS_A_ROUND && !connection->gone; i++) {
        ssize_t got = sqlite_buffer_receive(&connection->in, connection->fd, READ_BYTES);
        if (got < 0)
            connection->gone = true; /* what it submitted before is committed all the same */
        if (got <= 0)
            break;
        connection_requests(server, connection);
        if (got < READ_BYTES || sqlite_buffer_size(&connection->in) > SQLITE_REQUEST_LIMIT)
            break;
    }
}

/* ---- what the worker calls ---- */

static void server_reap(struct sqlite_server *server)
{
    for (size_t i = 0; i < server->slot_count; i++)
        if (server->slots[i] != NULL && server->slots[i]->gone)
            connection_free(server, server->slots[i]);
}

bool sqlite_server_wait(struct sqlite_server *server, int timeout_ms)
{
    struct epoll_event events[64];
    int count = epoll_wait(server->epoll_fd, events, 64, timeout_ms);
    bool reap = false;
    for (int i = 0; i < count; i++) {
        uint64_t tag = events[i].data.u64, woken;
        if (tag == TAG_LISTEN) {
            server_accept(server);
            continue;
        }
        if (tag == TAG_WAKE) {
            if (read(server->wake_fd, &woken, sizeof woken) < 0)
                continue;
            continue;
        }
        struct sqlite_connection *connection = connection_of(server, tag);
        if (connection == NULL)
            continue;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            connection_receive(server, connection);
        connection_send(server, connection);
        /* Frames that waited for room in the output. */
        if (events[i].events & EPOLLOUT) {
            connection_requests(server, connection);
            connection_send(server, connection);
        }
        reap |= connection->gone;
    }
    if (reap)
        server_reap(server);
    return count > 0;
}

void sqlite_server_wake(struct sqlite_server *server)
{
    uint64_t one = 1;
    if (write(server->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

void sqlite_server_answer(struct sqlite_server *server, const struct sqlite_op *op)
{
    struct sqlite_connection *connection = connection_of(server, op->connection);
    if (connection != NULL && !sqlite_frame_put_submitted(&connection->out, op->cookie, op))
        connection->gone = true;
}

int sqlite_server_push(struct sqlite_server *server, uint64_t client, const Reply *reply)
{
    int result = LOG_NOT_FOUND;
    for (size_t i = 0; i < server->slot_count; i++) {
        struct sqlite_connection *connection = server->slots[i];
        if (connection == NULL || connection->gone || client == 0 || connection->client != client)
            continue;
        SocketFrame frame = PERDURE__V1__SOCKET_FRAME__INIT;
        frame.kind_case = PERDURE__V1__SOCKET_FRAME__KIND_REPLY;
        frame.reply = (Reply *)(uintptr_t)reply;
        if (sqlite_frame_put(&connection->out, &frame))
            result = LOG_OK;
        else
            connection->gone = true;
    }
    return result;
}

static void connection_unpark(struct sqlite_server *server, struct sqlite_connection *connection)
{
    size_t kept = 0;
    for (size_t i = 0; i < connection->parked_count; i++) {
        SocketFrame *frame = connection->parked[i];
        if (connection->gone || sqlite_serve_must_wait(server->db, frame) ||
            sqlite_buffer_size(&connection->out) > OUTPUT_PAUSE) {
            connection->parked[kept++] = frame;
            continue;
        }
        if (!sqlite_serve(server->db, frame, &connection->out))
            connection->gone = true;
        sqlite_frame_free(frame);
        server->parked--;
    }
    connection->parked_count = kept;
}

void sqlite_server_committed(struct sqlite_server *server)
{
    for (size_t i = 0; i < server->slot_count && server->parked > 0; i++)
        if (server->slots[i] != NULL)
            connection_unpark(server, server->slots[i]);
    sqlite_server_send(server);
}

void sqlite_server_send(struct sqlite_server *server)
{
    bool reap = false;
    for (size_t i = 0; i < server->slot_count; i++) {
        struct sqlite_connection *connection = server->slots[i];
        if (connection == NULL)
            continue;
        if (sqlite_buffer_size(&connection->out) > 0)
            connection_send(server, connection);
        reap |= connection->gone;
    }
    if (reap)
        server_reap(server);
}

void sqlite_server_tick(struct sqlite_server *server, int64_t now_ms)
{
    if (server->deaf)
        server->deaf = server_watch(server, server->listen_fd, TAG_LISTEN) != 0;
    for (size_t i = 0; i < server->slot_count; i++) {
        struct sqlite_connection *connection = server->slots[i];
        if (connection == NULL)
            continue;
        if (connection->stuck_since != 0 && now_ms - connection->stuck_since > SLOW_MS && !server_is_choked(server))
            connection->gone = true;
        connection_unpark(server, connection);
        connection_requests(server, connection);
        if (!connection->gone)
            connection_send(server, connection);
    }
    server_reap(server);
}

void sqlite_server_close(struct sqlite_server *server)
{
    for (size_t i = 0; i < server->slot_count; i++)
        if (server->slots[i] != NULL) {
            connection_send(server, server->slots[i]);
            connection_free(server, server->slots[i]);
        }
    free(server->slots);
    server->slots = NULL;
    server->slot_count = 0;
    /* Still under the lock, so the socket is ours; not if the lock file was replaced (H30): another may serve then. */
    if (server->listen_fd >= 0 && sqlite_lock_in_place(&server->db->lock)) {
        struct sockaddr_un address;
        int folder_fd;
        sqlite_socket_beside(&server->db->paths, &folder_fd, &address);
        unlink(server->socket_path[0] != '\0' ? server->socket_path : address.sun_path);
        if (folder_fd >= 0)
            close(folder_fd);
    }
    close_guarded(server->listen_fd);
    close_guarded(server->epoll_fd);
    close_guarded(server->wake_fd);
    server->listen_fd = server->epoll_fd = server->wake_fd = -1;
}
