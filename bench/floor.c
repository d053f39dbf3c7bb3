/*
 * floor: the least a server can do to fan a message out on this kernel.
 *
 * The reference that servers are measured against: one thread, one epoll set; a POST to
 * /broadcast becomes one ready-made text frame, and each turn of the loop makes one send() per
 * client with all frames of that turn. It does not read what clients send, knows one handshake
 * (the RFC's sample nonce), ignores how much the kernel took, and so loses messages to clients
 * that are slow. It exists to be a bound, not a server.
 *
 *   cc -O3 -march=native -o floor bench/floor.c && ./floor 8000
 *   cc -O3 -march=native -DURING -o floor-uring bench/floor.c -luring    (a batch of sends)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef URING
#include <liburing.h>
static struct io_uring ring;
#endif

enum { EVENTS = 1024, POSTS = 4096, BODY_BYTES = 64 * 1024,
       REQUEST_BYTES = BODY_BYTES + 2048, BATCH_BYTES = 1 << 24 };

struct peer {
    int fd;
    int is_client; /* upgraded; otherwise it publishes */
    int length;
    char *request; /* none for a client: it costs 32 bytes */
};

static const char ACCEPTED[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
static const char UPGRADED[] = "HTTP/1.1 101 Switching Protocols\r\n"
                               "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int *clients, client_count, client_room;
static char *batch; /* the frames of this turn */
static size_t batch_length;
static int answers[POSTS], answer_count; /* who published in this turn */

static void say(int fd, const char *text) {
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

#ifdef URING
static void reap(unsigned queued) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_submit_and_wait(&ring, queued);
    io_uring_for_each_cqe(&ring, head, cqe) count++;
    io_uring_cq_advance(&ring, count);
}

static void send_batch(void) {
    unsigned queued = 0;
    for (int i = 0; i < client_count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        if (!sqe) {
            reap(queued);
            queued = 0;
            sqe = io_uring_get_sqe(&ring);
        }
        io_uring_prep_send(sqe, clients[i], batch, batch_length, MSG_NOSIGNAL | MSG_DONTWAIT);
        queued++;
    }
    if (queued) reap(queued);
}
#else
static void send_batch(void) {
    for (int i = 0; i < client_count; i++)
        (void)!send(clients[i], batch, batch_length, MSG_NOSIGNAL | MSG_DONTWAIT);
}
#endif

static void end_turn(void) {
    if (!batch_length) return;
    send_batch();
    batch_length = 0;
    for (int i = 0; i < answer_count; i++) say(answers[i], ACCEPTED);
    answer_count = 0;
}

static void append_frame(const char *payload, size_t length) {
    if (batch_length + length + 10 > BATCH_BYTES || answer_count == POSTS) end_turn();
    uint8_t *at = (uint8_t *)batch + batch_length;
    *at++ = 0x81;
    if (length < 126) {
        *at++ = length;
    } else if (length < 65536) {
        *at++ = 126;
        *at++ = length >> 8;
        *at++ = length;
    } else {
        *at++ = 127;
        for (int shift = 56; shift >= 0; shift -= 8) *at++ = (uint64_t)length >> shift;
    }
    memcpy(at, payload, length);
    batch_length = (char *)at + length - batch;
}

static void forget(struct peer *peer) {
    for (int i = 0; peer->is_client && i < client_count; i++)
        if (clients[i] == peer->fd) {
            clients[i] = clients[--client_count];
            break;
        }
    close(peer->fd);
    free(peer->request);
    free(peer);
}

static void add_client(struct peer *peer) {
    say(peer->fd, UPGRADED);
    peer->is_client = 1;
    free(peer->request);
    peer->request = NULL;
    if (client_count == client_room) {
        client_room = client_room ? client_room * 2 : 1024;
        clients = realloc(clients, client_room * sizeof(int));
    }
    clients[client_count++] = peer->fd;
}

static void on_readable(struct peer *peer) {
    static char ignored[4096];
    if (!peer->is_client && !peer->request) peer->request = malloc(REQUEST_BYTES + 1);
    ssize_t got = peer->is_client
                      ? recv(peer->fd, ignored, sizeof ignored, 0)
                      : recv(peer->fd, peer->request + peer->length,
                             REQUEST_BYTES - peer->length, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) forget(peer);
        return;
    }
    if (peer->is_client) return;
    peer->length += got;
    peer->request[peer->length] = 0;
    char *body = strstr(peer->request, "\r\n\r\n");
    if (!body) return;
    body += 4;
    if (!strncmp(peer->request, "GET", 3)) {
        add_client(peer);
        return;
    }
    const char *header = strcasestr(peer->request, "content-length:");
    int length = header ? atoi(header + 15) : 0;
    if (length < 0 || length > BODY_BYTES || peer->length - (body - peer->request) < length)
        return;
    append_frame(body, length);
    answers[answer_count++] = peer->fd;
    peer->length = 0;
}

static void accept_all(int epoll, int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct peer *peer = calloc(1, sizeof *peer);
        peer->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor: cannot listen");
        exit(1);
    }
    return listener;
}

int main(int argc, char **argv) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    batch = malloc(BATCH_BYTES);
#ifdef URING
    io_uring_queue_init(4096, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
#endif
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 8000);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                on_readable(events[i].data.ptr);
            else
                accept_all(epoll, listener);
        }
        end_turn();
    }
}
