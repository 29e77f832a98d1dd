/*
 * The connection of an embedded log's client to the file's owner.
 */
#define _GNU_SOURCE
#include "log/sqlite_client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/fork_guard.h"

void sqlite_client_disconnect(struct sqlite_client *client)
{
    if (client->fd >= 0) {
        fork_release(client->fd);
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
        fork_guard(client->fd);
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

bool sqlite_client_connect(struct sqlite_client *client)
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
    sqlite_client_disconnect(client);
    return false;
}

bool sqlite_client_keep(struct sqlite_client *client, SocketFrame *frame)
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
        client->welcome = sqlite_client_take_genesis(client, frame->welcome->genesis);
        client->wrong = !client->welcome;
        client->backoff = 0;
    } else if (frame->kind_case == PERDURE__V1__SOCKET_FRAME__KIND_FAILURE) {
        snprintf(client->log.error, sizeof client->log.error, "sqlite:%.200s: %.250s", client->paths.database,
                 frame->failure->message);
    }
    sqlite_frame_free(frame);
    if (!client->welcome)
        sqlite_client_disconnect(client);
}

void sqlite_client_transfer(struct sqlite_client *client, uint64_t awaited, SocketFrame **answer)
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
                sqlite_client_keep(client, frame);
        }
        if (got < 0 || result == SQLITE_FRAME_BAD)
            sqlite_client_disconnect(client);
    }
}

void sqlite_client_wait(struct sqlite_client *client, int64_t timeout_ms)
{
    struct pollfd fds[2] = {{.fd = client->wake_fd, .events = POLLIN}, {.fd = client->fd, .events = POLLIN}};
    if (sqlite_buffer_size(&client->out) > 0)
        fds[1].events |= POLLOUT;
    if (timeout_ms < 0)
        timeout_ms = 0;
    poll(fds, client->fd >= 0 ? 2 : 1, timeout_ms > 60000 ? 60000 : (int)timeout_ms);
}
