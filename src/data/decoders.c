/* decoders.c - the pool of decoder processes. They are begun with posix_spawn, which is safe beside threads
 * and MPI, and end when their socket does. */
#include "data/decoders.h"
#include "files/module.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PATIENCE = 10 }; /* a sample may take so many times its processor time until it is over */

typedef struct decoder {
    pid_t process; /* 0: not begun */
    int socket, memory;
    uint8_t *map;
    size_t size;
    int taken;
} decoder;

struct up_decoders {
    char *program;
    double seconds;
    decoder *list;
    int count;
    pthread_mutex_t lock;
    pthread_cond_t back;
};

/* ---- one process ---- */

/* End it, and say how it ended by itself. */
static int end_process(decoder *d) {
    int how = 0;
    close(d->socket);
    kill(d->process, SIGKILL); /* nothing, where it is dead already */
    while (waitpid(d->process, &how, 0) < 0 && errno == EINTR) continue;
    if (d->map) munmap(d->map, d->size);
    close(d->memory);
    *d = (decoder){.taken = d->taken};
    return how;
}

/* A descriptor far from those that the process gets, and not for any other. */
static int out_of_the_way(int file) {
    int moved = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 16);
    if (file >= 0) close(file);
    return moved;
}

static int spawn(const up_decoders *all, decoder *d, int theirs) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    char *arguments[] = {all->program, NULL};
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_adddup2(&files, theirs, UP_DECODER_SOCKET);
    posix_spawn_file_actions_adddup2(&files, d->memory, UP_DECODER_MEMORY);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawn(&d->process, all->program, &files, &how, arguments, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static up_status begin_process(const up_decoders *all, decoder *d) {
    int pair[2] = {-1, -1};
    int error = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? errno : 0;
    int theirs = out_of_the_way(pair[1]);
    d->socket = out_of_the_way(pair[0]);
    d->memory = out_of_the_way(memfd_create("uniperceiver-decoder", MFD_CLOEXEC));
    if (!error && (theirs < 0 || d->socket < 0 || d->memory < 0)) error = errno;
    if (!error) error = spawn(all, d, theirs);
    if (theirs >= 0) close(theirs);
    if (!error) return UP_OK;
    if (d->socket >= 0) close(d->socket);
    if (d->memory >= 0) close(d->memory);
    *d = (decoder){.taken = d->taken};
    return up_fail(UP_ERR_MEMORY, all->program, "cannot be started: %s", strerror(error));
}

static up_status make_room(decoder *d, size_t wanted, const char *name) {
    if (wanted <= d->size) return UP_OK;
    void *map = MAP_FAILED;
    if (d->map) munmap(d->map, d->size);
    d->map = NULL;
    d->size = 0;
    if (!ftruncate(d->memory, (off_t)wanted))
        map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory, 0);
    if (map == MAP_FAILED) return up_fail(UP_ERR_MEMORY, name, "%zu bytes wanted beside it", wanted);
    d->map = map;
    d->size = wanted;
    return UP_OK;
}

/* ---- a question and its answer ---- */

static up_status tell_death(decoder *d, const char *name, double seconds, int too_late) {
    int how = end_process(d);
    if (too_late || (WIFSIGNALED(how) && WTERMSIG(how) == SIGPROF))
        return up_fail(UP_ERR_FORMAT, name, "took its decoder more than %g s", seconds);
    if (WIFSIGNALED(how))
        return up_fail(UP_ERR_FORMAT, name, "its decoder died of SIG%s", sigabbrev_np(WTERMSIG(how)));
    return up_fail(UP_ERR_FORMAT, name, "its decoder ended with code %d", WEXITSTATUS(how));
}

/* A process that somebody has ended while it was idle is no sample's fault: another is begun, once. */
static up_status ask(const up_decoders *all, decoder *d, const up_decoder_request *request,
                     const up_media *media) {
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!d->process) UP_TRY(begin_process(all, d));
        UP_TRY(make_room(d, request->patches + request->bytes, media->name));
        if (request->bytes) memcpy(d->map + request->patches, media->bytes, request->bytes);
        ssize_t sent;
        while ((sent = send(d->socket, request, sizeof *request, MSG_NOSIGNAL)) < 0 && errno == EINTR)
            continue;
        if (sent == (ssize_t)sizeof *request) return UP_OK;
        end_process(d);
    }
    return up_fail(UP_ERR_MEMORY, all->program, "ends when it is started");
}

static up_status hear(const up_decoders *all, decoder *d, const char *name, up_decoder_answer *answer) {
    struct pollfd wait = {.fd = d->socket, .events = POLLIN};
    int ready;
    while ((ready = poll(&wait, 1, (int)(all->seconds * PATIENCE * 1000))) < 0 && errno == EINTR) continue;
    if (ready > 0 && recv(d->socket, answer, sizeof *answer, 0) == (ssize_t)sizeof *answer) return UP_OK;
    if (!ready) return tell_death(d, name, all->seconds * PATIENCE, 1);
    return tell_death(d, name, all->seconds, 0);
}

static up_status read_with(const up_decoders *all, decoder *d, const up_decoder_request *request,
                           const up_media *media, uint8_t *out) {
    up_decoder_answer answer;
    UP_TRY(ask(all, d, request, media));
    UP_TRY(hear(all, d, media->name, &answer));
    answer.message[sizeof answer.message - 1] = 0;
    if (answer.status == UP_ERR_MEMORY) /* of its own, which is bounded */
        return up_fail(UP_ERR_FORMAT, media->name, "its decoder lacks memory: %s", answer.message);
    if (answer.status != UP_OK) return up_fail_again(answer.status, answer.message);
    memcpy(out, d->map, request->patches);
    return UP_OK;
}

/* ---- the pool ---- */

static decoder *take(up_decoders *all) {
    decoder *found = NULL;
    pthread_mutex_lock(&all->lock);
    while (!found) {
        for (int i = 0; i < all->count && !found; i++)
            if (!all->list[i].taken) found = &all->list[i];
        if (!found) pthread_cond_wait(&all->back, &all->lock);
    }
    found->taken = 1;
    pthread_mutex_unlock(&all->lock);
    return found;
}

static void give_back(up_decoders *all, decoder *d) {
    pthread_mutex_lock(&all->lock);
    d->taken = 0;
    pthread_cond_signal(&all->back);
    pthread_mutex_unlock(&all->lock);
}

up_status up_decoders_open(int count, double seconds, up_decoders **out) {
    up_decoders *all = calloc(1, sizeof *all);
    *out = NULL;
    if (all) all->list = calloc((size_t)count, sizeof *all->list);
    if (!all || !all->list) {
        free(all);
        return up_fail(UP_ERR_MEMORY, "decoders", "%d wanted", count);
    }
    all->count = count;
    all->seconds = seconds;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->back, NULL);
    all->program = up_module_find("uniperceiver_decoder", "UP_DECODER");
    *out = all;
    if (all->program) return UP_OK;
    up_decoders_close(all);
    *out = NULL;
    return up_fail(UP_ERR_UNSUPPORTED, "decoders", "the program uniperceiver_decoder is not there");
}

void up_decoders_close(up_decoders *all) {
    if (!all) return;
    for (int i = 0; i < all->count; i++)
        if (all->list[i].process) end_process(&all->list[i]);
    pthread_mutex_destroy(&all->lock);
    pthread_cond_destroy(&all->back);
    free(all->program);
    free(all->list);
    free(all);
}

up_status up_decoders_read(up_decoders *all, const up_config *config, const up_media *media,
                           const up_image_limits *limits, const up_pixels_wanted *wanted, uint8_t *out) {
    if (!all) return up_pixels_read(config, media, limits, wanted, out);
    up_decoder_request request = {.config = *config,
                                  .wanted = *wanted,
                                  .max_pixels = limits->max_pixels,
                                  .seconds = all->seconds,
                                  .patches = up_pixels_bytes(config, wanted),
                                  .bytes = media->bytes ? media->size : 0};
    if (strlen(media->name) >= sizeof request.name)
        return up_fail(UP_ERR_FORMAT, media->name, "a name of %zu bytes", strlen(media->name));
    strcpy(request.name, media->name);
    decoder *d = take(all);
    up_status status = read_with(all, d, &request, media, out);
    give_back(all, d);
    return status;
}
