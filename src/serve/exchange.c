/* exchange.c - one request: who may ask, where it goes, its body, its answer. All of it runs in the thread
 * that speaks HTTP and waits for nothing: a request that is queued sleeps until its job is told. */
#include "serve/server.h"
#include "files/clock.h"
#include "serve/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum route_kind { TO_PAGE, TO_OPENAPI, TO_HEALTH, TO_MODEL, TO_JOB } route_kind;

typedef struct route {
    const char *path;
    route_kind kind;
    up_job_kind job;
} route;

static const route routes[] = {
    {"/", TO_PAGE, 0},
    {"/openapi.json", TO_OPENAPI, 0},
    {"/health", TO_HEALTH, 0},
    {"/model", TO_MODEL, 0},
    {"/encode", TO_JOB, UP_JOB_ENCODE},
    {"/classify", TO_JOB, UP_JOB_CLASSIFY},
    {"/retrieve", TO_JOB, UP_JOB_RETRIEVE},
    {"/caption", TO_JOB, UP_JOB_CAPTION},
    {"/vqa", TO_JOB, UP_JOB_VQA},
    {"/search", TO_JOB, UP_JOB_SEARCH},
    {"/thumbnail", TO_JOB, UP_JOB_THUMBNAIL},
    {NULL, TO_PAGE, 0},
};

typedef struct exchange {
    up_server *server;
    up_client *client;
    const route *route;
    int refused; /* HTTP status of a request that is not answered; 0: none */
    char why[160];
    char *body;
    size_t size, room; /* of the body; size counts on where it is thrown away */
    up_job *job;
} exchange;

/* --- answers --- */

static enum MHD_Result send_response(struct MHD_Connection *c, int status, const char *type,
                                     struct MHD_Response *response) {
    static const char policy[] = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                                 "img-src blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; "
                                 "form-action 'none'; frame-ancestors 'none'";
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Content-Security-Policy", policy);
    if (status == 405) MHD_add_response_header(response, "Allow", "GET, HEAD, POST");
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429 || status == 503) MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result result = MHD_queue_response(c, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_text(struct MHD_Connection *c, int status, const char *type, const char *text,
                                 size_t size, enum MHD_ResponseMemoryMode mode) {
    return send_response(c, status, type, MHD_create_response_from_buffer(size, (void *)text, mode));
}

static enum MHD_Result send_error(struct MHD_Connection *c, int status, const char *why) {
    json_t *error = json_pack("{s:s}", "error", why);
    char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;
    json_decref(error);
    if (!text) return MHD_NO;
    enum MHD_Result result =
        send_text(c, status, "application/json", text, strlen(text), MHD_RESPMEM_MUST_COPY);
    free(text);
    return result;
}

static enum MHD_Result send_health(up_server *s, struct MHD_Connection *c) {
    char text[256];
    up_queue_counts n;
    up_queue_counted(s->queue, &n);
    int size = snprintf(text, sizeof text,
                        "{\"status\":\"%s\",\"waiting\":%d,\"answered\":%lld,\"batches\":%lld,"
                        "\"largest_batch\":%d}",
                        s->stopping ? "stopping" : "ok", n.waiting, (long long)n.answered,
                        (long long)n.batches, n.largest);
    return send_text(c, s->stopping ? 503 : 200, "application/json", text, (size_t)size,
                     MHD_RESPMEM_MUST_COPY);
}

/* --- who may ask --- */

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static void refuse(exchange *e, int status, const char *why) {
    e->refused = status;
    snprintf(e->why, sizeof e->why, "%s", why);
}

/* Takes as long for any text of a length: how much of it is right is not to be found out by the clock. */
static int same_secret(const char *given, const char *secret) {
    size_t length = strlen(given), wanted = strlen(secret);
    unsigned different = length != wanted;
    for (size_t i = 0; i < length; i++)
        different |= (unsigned char)given[i] ^ (unsigned char)secret[wanted ? i % wanted : 0];
    return !different;
}

static int has_token(const up_server *s, struct MHD_Connection *c) {
    const char *given = header(c, "Authorization");
    return given && !strncasecmp(given, "Bearer ", 7) && same_secret(given + 7, s->options->token);
}

/* Whether a request names this machine: a page elsewhere whose name is made to lead here does not. */
static int names_loopback(struct MHD_Connection *c) {
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = header(c, "Host");
    if (!host) return 1; /* no browser */
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(names[i]);
        if (!strncasecmp(host, names[i], length) && (!host[length] || host[length] == ':')) return 1;
    }
    return 0;
}

static void check_right(exchange *e, struct MHD_Connection *c) {
    const up_serve_options *o = e->server->options;
    if (up_serve_is_loopback(o->address) && !o->token && !names_loopback(c)) {
        refuse(e, 403, "host: this server answers to localhost alone");
        return;
    }
    int public = e->route->kind != TO_JOB && e->route->kind != TO_MODEL;
    if (o->token && !public && !has_token(e->server, c))
        refuse(e, 401, "token: wanted \"Authorization: Bearer TOKEN\"");
}

/* JSON alone: a form of a page elsewhere cannot send it. */
static void check_body(exchange *e, struct MHD_Connection *c) {
    const char *type = header(c, "Content-Type"), *length = header(c, "Content-Length");
    size_t most = e->server->options->body_most;
    if (!type || strncasecmp(type, "application/json", 16) ||
        (type[16] && type[16] != ';' && type[16] != ' '))
        refuse(e, 415, "content type: wanted application/json");
    if (length && strtoull(length, NULL, 10) > most) {
        refuse(e, 413, "");
        snprintf(e->why, sizeof e->why, "body: %.20s bytes; at most %zu are taken", length, most);
    }
}

static int needs_index(const route *r) {
    return r->kind == TO_JOB && (r->job == UP_JOB_SEARCH || r->job == UP_JOB_THUMBNAIL);
}

static void check_request(exchange *e, struct MHD_Connection *c, const char *url, const char *method) {
    const route *r = routes;
    while (r->path && strcmp(r->path, url)) r++;
    e->route = r;
    int get = !strcmp(method, "GET") || !strcmp(method, "HEAD"), post = !strcmp(method, "POST");
    if (!r->path) {
        refuse(e, 404, "path: there is nothing here; see /openapi.json");
        return;
    }
    if (r->kind == TO_JOB ? !post : !get) {
        refuse(e, 405, r->kind == TO_JOB ? "method: wanted POST" : "method: wanted GET");
        return;
    }
    check_right(e, c);
    if (!e->refused && needs_index(r) && !e->server->options->search.index)
        refuse(e, 404, "index: this server has none to search in; see --index");
    if (!e->refused && post) check_body(e, c);
}

/* --- the body --- */

static up_client *client_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static enum MHD_Result begin(up_server *s, struct MHD_Connection *c, const char *url, const char *method,
                             void **context) {
    exchange *e = calloc(1, sizeof *e);
    if (!e) return MHD_NO;
    *context = e;
    e->server = s;
    e->client = client_of(c);
    check_request(e, c, url, method);
    pthread_mutex_lock(&s->lock);
    if (e->client) {
        if (e->client->requests++) e->client->since = up_now();
        e->client->arriving = 1;
    }
    pthread_mutex_unlock(&s->lock);
    return MHD_YES;
}

/* Counts bytes of bodies; 0: there are too many. */
static int hold(up_server *s, size_t more) {
    pthread_mutex_lock(&s->lock);
    int fits = s->bodies + more <= s->options->body_most * UP_SERVER_BODIES;
    if (fits) s->bodies += more;
    pthread_mutex_unlock(&s->lock);
    return fits;
}

static void let_go(exchange *e) {
    pthread_mutex_lock(&e->server->lock);
    e->server->bodies -= e->room;
    pthread_mutex_unlock(&e->server->lock);
    free(e->body);
    e->body = NULL;
    e->room = 0;
}

static int make_room(exchange *e, size_t size) {
    size_t room = e->room ? e->room * 2 : 16384;
    if (room < size) room = size;
    if (!hold(e->server, room - e->room)) return 0;
    char *grown = realloc(e->body, room);
    if (grown) {
        e->body = grown;
        e->room = room;
        return 1;
    }
    pthread_mutex_lock(&e->server->lock);
    e->server->bodies -= room - e->room;
    pthread_mutex_unlock(&e->server->lock);
    return 0;
}

/* More of the body. What is refused is read on and thrown away, so that the answer is heard; four times of
 * what is taken ends the connection. */
static enum MHD_Result take(exchange *e, const char *data, size_t *size) {
    size_t most = e->server->options->body_most, total = e->size + *size;
    if (!e->refused && total > most) {
        refuse(e, 413, "");
        snprintf(e->why, sizeof e->why, "body: more than the %zu bytes that are taken", most);
    }
    if (!e->refused && total > e->room && !make_room(e, total))
        refuse(e, 503, "server: no memory for more requests at present");
    if (e->refused)
        let_go(e);
    else
        memcpy(e->body + e->size, data, *size);
    e->size = total;
    *size = 0;
    return e->refused && total / 4 > most ? MHD_NO : MHD_YES;
}

/* --- jobs --- */

static void wake(void *connection) {
    MHD_resume_connection(connection);
}

/* Under the job's lock, which who wakes it takes as well. */
static void sleep_until_told(up_job *job, struct MHD_Connection *c) {
    job->asleep = 1;
    MHD_suspend_connection(c);
}

static enum MHD_Result start_job(exchange *e, struct MHD_Connection *c) {
    up_server *s = e->server;
    const up_job_world world = {s->models, s->count, &s->options->search};
    up_status status =
        up_job_read(e->route->job, &world, e->body ? e->body : "", e->body ? e->size : 0, &e->job);
    let_go(e);
    if (status != UP_OK) return send_error(c, up_job_http_status(status), up_last_error());
    up_job *job = e->job;
    pthread_mutex_lock(&job->lock);
    job->wake = wake;
    job->connection = c;
    int taken = up_queue_push(s->queue, job);
    if (taken) sleep_until_told(job, c);
    pthread_mutex_unlock(&job->lock);
    return taken ? MHD_YES : send_error(c, 429, "server: too many requests wait already");
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t room) {
    exchange *e = context;
    up_job *job = e->job;
    pthread_mutex_lock(&job->lock);
    size_t size = job->size - (size_t)position;
    if (size > room) size = room;
    if (size) memcpy(out, job->reply + position, size);
    int ended = !size && job->done;
    if (!size && !ended) sleep_until_told(job, job->connection);
    pthread_mutex_unlock(&job->lock);
    return ended ? MHD_CONTENT_READER_END_OF_STREAM : (ssize_t)size;
}

/* A job that has an answer, or the beginning of a stream. */
static enum MHD_Result tell_job(exchange *e, struct MHD_Connection *c) {
    up_job *job = e->job;
    pthread_mutex_lock(&job->lock);
    int done = job->done, told = done || job->size;
    if (!told) sleep_until_told(job, c);
    pthread_mutex_unlock(&job->lock);
    if (!told) return MHD_YES;
    if (job->stream && (!done || done == 200))
        return send_response(c, 200, "text/event-stream",
                             MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, e, NULL));
    if (!job->size) return send_error(c, done, "server: no memory");
    return send_text(c, done, job->type ? job->type : "application/json", job->reply, job->size,
                     MHD_RESPMEM_MUST_COPY);
}

/* --- the whole --- */

static void note_complete(exchange *e) {
    pthread_mutex_lock(&e->server->lock);
    if (e->client && !e->client->answering) {
        e->client->arriving = 0;
        e->client->answering = 1;
        e->server->answering++;
    }
    pthread_mutex_unlock(&e->server->lock);
}

static enum MHD_Result answer(exchange *e, struct MHD_Connection *c) {
    up_server *s = e->server;
    note_complete(e);
    if (e->refused) return send_error(c, e->refused, e->why);
    switch (e->route->kind) {
    case TO_PAGE:
        return send_text(c, 200, "text/html; charset=utf-8", up_page_html, up_page_html_size,
                         MHD_RESPMEM_PERSISTENT);
    case TO_OPENAPI:
        return send_text(c, 200, "application/json", up_openapi_json, up_openapi_json_size,
                         MHD_RESPMEM_PERSISTENT);
    case TO_HEALTH:
        return send_health(s, c);
    case TO_MODEL:
        return send_text(c, 200, "application/json", s->about, strlen(s->about), MHD_RESPMEM_PERSISTENT);
    case TO_JOB:
        break;
    }
    if (!e->job && s->stopping) return send_error(c, 503, "server: is stopping");
    return e->job ? tell_job(e, c) : start_job(e, c);
}

enum MHD_Result up_exchange_step(void *server, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **context) {
    (void)version;
    exchange *e = *context;
    if (!e) {
        enum MHD_Result result = begin(server, c, url, method, context);
        e = *context;
        const char *expects = e ? header(c, "Expect") : NULL;
        return e && e->refused && expects ? answer(e, c) : result; /* it asks before it sends the body */
    }
    if (*size) return take(e, data, size);
    return answer(e, c);
}

void up_exchange_end(void *server, struct MHD_Connection *c, void **context,
                     enum MHD_RequestTerminationCode why) {
    up_server *s = server;
    exchange *e = *context;
    (void)c;
    (void)why;
    if (!e) return;
    if (e->job) {
        pthread_mutex_lock(&e->job->lock);
        e->job->connection = NULL;
        pthread_mutex_unlock(&e->job->lock);
        up_job_leave(e->job);
    }
    let_go(e);
    pthread_mutex_lock(&s->lock);
    if (e->client) {
        s->answering -= e->client->answering;
        e->client->arriving = e->client->answering = 0;
        e->client->since = up_now();
    }
    pthread_mutex_unlock(&s->lock);
    free(e);
    *context = NULL;
}
