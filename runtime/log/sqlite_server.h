/*
 * The owner's side of the socket: listens, reads requests, answers them after the commit. A client that is slow, silent
 * or hostile costs a bounded buffer and is dropped; it never holds up the owner.
 */
#ifndef PERDURE_SQLITE_SERVER_H
#define PERDURE_SQLITE_SERVER_H

#include <sys/socket.h>
#include <sys/un.h>

#include "log/sqlite_frame.h"

struct sqlite_connection;

struct sqlite_server {
    struct sqlite_db *db;
    struct sqlite_batch *batch; /* where submitted records go */
    int listen_fd, epoll_fd, wake_fd;
    struct sqlite_connection **slots;
    size_t slot_count, connections;
    uint32_t generation;
    size_t parked;              /* reads that wait for something to come */
    bool deaf;                  /* no descriptor was left for who wants to connect: looked at again each second */
    char socket_path[108];      /* "": beside the database; else where it is */
};

/* Under the lock only: unlinks what an earlier owner left, binds, listens (rule 27). */
int sqlite_server_open(struct sqlite_server *server, struct sqlite_db *db, struct sqlite_batch *batch, char *error,
                       size_t error_size);
/* Answers what is complete, unlinks the socket, closes everything. */
void sqlite_server_close(struct sqlite_server *server);

/* Waits up to `timeout_ms` and takes in what came. True: something happened. */
bool sqlite_server_wait(struct sqlite_server *server, int timeout_ms);
void sqlite_server_wake(struct sqlite_server *server); /* any thread */
/* After a commit: the client that waits for this row. */
void sqlite_server_answer(struct sqlite_server *server, const struct sqlite_op *op);
/* After a commit: reads that waited; then sends what can be sent. */
void sqlite_server_committed(struct sqlite_server *server);
/* LOG_NOT_FOUND: that client is not connected. */
int sqlite_server_push(struct sqlite_server *server, uint64_t client, const Reply *reply);
void sqlite_server_send(struct sqlite_server *server);
/* Each second: drops who does not read, does not greet or stops in the middle of a frame. */
void sqlite_server_tick(struct sqlite_server *server, int64_t now_ms);

/* A socket address in the database's folder; `*folder_fd` must stay open while it is used. */
socklen_t sqlite_socket_beside(const struct sqlite_paths *paths, int *folder_fd, struct sockaddr_un *address);
socklen_t sqlite_socket_elsewhere(const struct sqlite_paths *paths, struct sockaddr_un *address);

#endif
