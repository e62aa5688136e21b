/* server.c - all connections: the daemon of libmicrohttpd, the watch that ends slow ones, signals. */
#include "serve/server.h"
#include "files/clock.h"
#include "files/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- signals: a byte in a pipe; the second one ends the process --- */

static int signal_pipe[2];
static volatile sig_atomic_t signals;

static void on_signal(int number) {
    int before = errno;
    (void)number;
    if (signals++) _exit(1);
    if (write(signal_pipe[1], "", 1) < 0) _exit(1);
    errno = before;
}

static up_status catch_signals(struct sigaction before[2]) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK))
        return up_fail(UP_ERR_IO, "signals", "no pipe: %s", strerror(errno));
    signals = 0;
    sigaction(SIGINT, &action, &before[0]);
    sigaction(SIGTERM, &action, &before[1]);
    return UP_OK;
}

static void leave_signals(struct sigaction before[2]) {
    sigaction(SIGINT, &before[0], NULL);
    sigaction(SIGTERM, &before[1], NULL);
    close(signal_pipe[0]);
    close(signal_pipe[1]);
}

/* --- addresses --- */

typedef union up_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} up_address;

static int read_address(const char *text, int port, up_address *out) {
    *out = (up_address){0};
    if (inet_pton(AF_INET, text, &out->four.sin_addr) == 1) {
        out->four.sin_family = AF_INET;
        out->four.sin_port = htons((uint16_t)port);
        return 1;
    }
    if (inet_pton(AF_INET6, text, &out->six.sin6_addr) != 1) return 0;
    out->six.sin6_family = AF_INET6;
    out->six.sin6_port = htons((uint16_t)port);
    return 1;
}

int up_serve_is_loopback(const char *address) {
    up_address a;
    if (!read_address(address, 0, &a)) return 0;
    if (a.any.sa_family == AF_INET) return ntohl(a.four.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a.six.sin6_addr);
}

/* --- the watch --- */

static void note_connection(void *server, struct MHD_Connection *connection, void **context,
                            enum MHD_ConnectionNotificationCode what) {
    up_server *s = server;
    up_client *client = *context;
    pthread_mutex_lock(&s->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = client = calloc(1, sizeof *client);
        if (client) {
            client->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
            client->since = up_now();
            client->next = s->clients;
            client->link = &s->clients;
            if (client->next) client->next->link = &client->next;
            s->clients = client;
            s->connected++;
        }
    } else if (client) {
        *client->link = client->next;
        s->connected--;
        if (client->next) client->next->link = client->link;
        free(client);
        *context = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

/* A request that takes too long to arrive is told so past the library, which answers complete ones only; then
 * the library finds the connection closed. Idle connections are closed. */
static void end_client(const up_client *client) {
    static const char body[] = "{\"error\":\"request: did not arrive in time\"}";
    char text[256];
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
                        "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                        sizeof body - 1, body);
    int partial = client->arriving || !client->requests;
    if (partial && send(client->fd, text, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) partial = 0;
    shutdown(client->fd, partial ? SHUT_WR : SHUT_RDWR);
    shutdown(client->fd, SHUT_RDWR);
}

/* Where most connections are taken, those that say nothing must leave room for others. */
static void watch_clients(up_server *s) {
    double now = up_now();
    pthread_mutex_lock(&s->lock);
    int crowded = s->connected > s->connections_most / 4 * 3;
    for (up_client *client = s->clients; client; client = client->next) {
        double allowed = crowded && !client->arriving ? 1 : s->options->seconds;
        if (!client->answering && now - client->since > allowed) end_client(client);
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- what /model tells --- */

static json_t *list_served(const up_server *s) {
    json_t *list = json_array();
    for (int i = 0; i < s->count; i++) {
        int classes;
        const char *const *names = up_model_classes(up_session_model(s->models[i].session), &classes);
        json_t *labels = json_array();
        for (int k = 0; names && k < classes; k++) json_array_append_new(labels, json_string(names[k]));
        json_array_append_new(list, json_pack("{s:s,s:o}", "name", s->models[i].name, "labels", labels));
    }
    return list;
}

static up_status describe(up_server *s) {
    const up_config *c = up_model_config(up_session_model(s->models[0].session));
    const up_serve_options *o = s->options;
    size_t size;
    json_t *index =
        o->search.index ? json_pack("{s:I}", "rows", up_index_about_of(o->search.index).count) : json_null();
    json_t *limits =
        json_pack("{s:I,s:I,s:i,s:i,s:i,s:i,s:i,s:i}", "body_bytes", (json_int_t)o->body_most, "pixels",
                  (json_int_t)o->pixels_most, "seconds", o->seconds, "waiting", o->waiting_most, "inputs",
                  UP_JOB_INPUTS, "candidates", UP_JOB_CANDIDATES, "beam", UP_JOB_BEAM, "words", UP_JOB_WORDS);
    json_t *about =
        json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:b,s:o,s:o,s:o}", "version", up_version(), "preset",
                  c->preset, "width", c->width, "layers", c->layers, "image_size", c->image_size, "frames",
                  c->frames, "text_tokens", c->text_positions, "video", up_video_available(), "tuned",
                  list_served(s), "limits", limits, "index", index);
    up_status status = up_json_write("model", about, JSON_COMPACT, &s->about, &size);
    json_decref(about);
    return status;
}

/* --- from start to end --- */

/* As many as the process may open, which is raised as far as it may, less those that it has for itself. */
static unsigned connections_most(void) {
    enum { MOST = 4096, OWN = 64 };
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) return OWN;
    struct rlimit raised = {.rlim_cur = files.rlim_max < MOST + OWN ? files.rlim_max : MOST + OWN,
                            .rlim_max = files.rlim_max};
    if (raised.rlim_cur > files.rlim_cur && !setrlimit(RLIMIT_NOFILE, &raised)) files = raised;
    if (files.rlim_cur > MOST + OWN) return MOST;
    return files.rlim_cur > 2 * OWN ? (unsigned)files.rlim_cur - OWN : OWN;
}

static void stay_silent(void *context, const char *format, va_list args) {
    (void)context;
    (void)format;
    (void)args;
}

static up_status start_daemon(up_server *s) {
    const up_serve_options *o = s->options;
    up_address address;
    if (!read_address(o->address, o->port, &address))
        return up_fail(UP_ERR_ARGUMENT, o->address, "not an address: wanted numbers, as 127.0.0.1 or ::1");
    unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG | (address.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0U);
    s->connections_most = connections_most();
    errno = 0;
    s->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, up_exchange_step, s, MHD_OPTION_EXTERNAL_LOGGER, stay_silent,
                         NULL, MHD_OPTION_SOCK_ADDR, &address.any, MHD_OPTION_NOTIFY_COMPLETED,
                         up_exchange_end, s, MHD_OPTION_NOTIFY_CONNECTION, note_connection, s,
                         MHD_OPTION_CONNECTION_LIMIT, s->connections_most, MHD_OPTION_CONNECTION_TIMEOUT,
                         (unsigned)(2 * o->seconds), MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    return s->daemon ? UP_OK
                     : up_fail(UP_ERR_IO, o->address, "cannot listen at port %d: %s", o->port,
                               errno ? strerror(errno) : "refused");
}

static void tell_address(const up_server *s) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    int six = strchr(s->options->address, ':') != NULL;
    printf("listening on http://%s%s%s:%d/\n", six ? "[" : "", s->options->address, six ? "]" : "",
           info ? (int)info->port : s->options->port);
    fflush(stdout);
}

static void watch_until_signal(up_server *s) {
    struct pollfd waiting = {.fd = signal_pipe[0], .events = POLLIN};
    while (poll(&waiting, 1, 500) <= 0) watch_clients(s);
}

static int count_answering(up_server *s) {
    pthread_mutex_lock(&s->lock);
    int n = s->answering;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* No new connections, no new requests; those that are complete are answered, and their answers sent. */
static void finish_requests(up_server *s) {
    s->stopping = 1;
    int listening = MHD_quiesce_daemon(s->daemon);
    if (listening >= 0) close(listening);
    up_queue_stop(s->queue); /* nothing sleeps any more; what was told is still to be sent */
    double until = up_now() + s->options->seconds;
    while (count_answering(s) && up_now() < until) poll(NULL, 0, 10);
}

up_status up_serve(const up_served *models, int count, const up_serve_options *options) {
    up_status status = UP_OK;
    struct sigaction before[2];
    up_server s = {.options = options, .models = models, .count = count};
    UP_TRY(catch_signals(before));
    pthread_mutex_init(&s.lock, NULL);
    UP_GO(describe(&s));
    UP_GO(up_queue_start(options, &s.queue));
    UP_GO(start_daemon(&s));
    tell_address(&s);
    watch_until_signal(&s);
    finish_requests(&s);
done:
    if (s.daemon) MHD_stop_daemon(s.daemon);
    up_queue_free(s.queue);
    pthread_mutex_destroy(&s.lock);
    free(s.about);
    leave_signals(before);
    return status;
}
