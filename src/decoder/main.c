/* main.c - the program uniperceiver_decoder: reads pictures and clips for the process that has begun it
 * (data/decoders.h), one after the other, until that process ends. */
#include "data/decoders.h"
#include "data/pixels.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* What it may take: the limits' largest picture several times, decoded and on its way to be. */
static void limit_memory(int64_t max_pixels) {
#ifndef __SANITIZE_ADDRESS__ /* which takes addresses by the terabyte */
    up_image_limits limits = {max_pixels};
    rlim_t most = ((rlim_t)2 << 30) + 24 * (rlim_t)up_image_max_pixels(&limits);
    setrlimit(RLIMIT_AS, &(struct rlimit){most, most});
#else
    (void)max_pixels;
#endif
}

/* Memory of one picture serves the next: giving it back in between costs a third of the time. */
static void keep_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
}

/* No core of each broken file; if memory runs out, this process goes first; it ends with its parent, not by
 * a signal that is meant for that. */
static void settle(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, "1000", 4) < 0) perror("oom_score_adj");
    if (file >= 0) close(file);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    fcntl(UP_DECODER_SOCKET, F_SETFD, FD_CLOEXEC);
    fcntl(UP_DECODER_MEMORY, F_SETFD, FD_CLOEXEC);
}

/* SIGPROF ends the process when so much processor time is gone; 0: never. */
static void set_alarm(double seconds) {
    struct itimerval timer = {.it_value = {.tv_sec = (time_t)seconds}};
    timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6);
    setitimer(ITIMER_PROF, &timer, NULL);
}

static up_status map_memory(uint8_t **map, size_t *size, size_t wanted) {
    struct stat about;
    if (wanted <= *size) return UP_OK;
    if (*map) munmap(*map, *size);
    *map = NULL;
    *size = 0;
    if (fstat(UP_DECODER_MEMORY, &about) || (size_t)about.st_size < wanted)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "its memory has not the %zu bytes wanted", wanted);
    void *mapped = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, UP_DECODER_MEMORY, 0);
    if (mapped == MAP_FAILED) return up_fail(UP_ERR_MEMORY, "decoder", "%zu bytes wanted", wanted);
    *map = mapped;
    *size = wanted;
    return UP_OK;
}

static up_status answer(up_decoder_request *r, uint8_t **map, size_t *size) {
    up_image_limits limits = {r->max_pixels};
    UP_TRY(map_memory(map, size, r->patches + r->bytes));
    up_media media = {.name = r->name, .bytes = r->bytes ? *map + r->patches : NULL, .size = r->bytes};
    return up_pixels_read(&r->config, &media, &limits, &r->wanted, *map);
}

int main(void) {
    static up_decoder_request request;
    uint8_t *map = NULL;
    size_t size = 0;
    int limited = 0;
    settle();
    keep_memory();
    while (recv(UP_DECODER_SOCKET, &request, sizeof request, 0) == (ssize_t)sizeof request) {
        up_decoder_answer said = {.status = UP_OK};
        if (!limited++) limit_memory(request.max_pixels);
        set_alarm(request.seconds);
        said.status = answer(&request, &map, &size);
        set_alarm(0);
        if (said.status != UP_OK) snprintf(said.message, sizeof said.message, "%s", up_last_error());
        if (send(UP_DECODER_SOCKET, &said, sizeof said, MSG_NOSIGNAL) != (ssize_t)sizeof said) break;
    }
    return 0;
}
