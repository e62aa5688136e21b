/* crash_video.c - a module of videos for tests: what the text of a clip says happens inside it; "fine" gives
 * grey frames. */
#include "data/video_module.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int says(const up_video_source *s, const char *word) {
    char text[16] = "";
    if (pread(s->file, text, sizeof text - 1, 0) < 0) return 0;
    return !strncmp(text, word, strlen(word));
}

static up_status take_all_memory(const up_video_host *host, const up_video_source *s) {
#ifdef __SANITIZE_ADDRESS__ /* under which a decoder has no limit (src/decoder/main.c) */
    enum { PIECE = 64 << 20, MOST = 64 };
#else
    enum { PIECE = 64 << 20, MOST = INT_MAX };
#endif
    void *piece;
    for (int i = 0; i < MOST && (piece = malloc(PIECE)); i++) *(volatile char *)piece = 1;
    return host->fail(UP_ERR_MEMORY, s->name, "no memory for a frame");
}

up_status up_video_ffmpeg_pass(const up_video_host *host, up_video_source *s, up_video_pass *p) {
    if (says(s, "segv")) raise(SIGSEGV);
    if (says(s, "abort")) abort();
    if (says(s, "exit")) exit(3);
    if (says(s, "memory")) return take_all_memory(host, s);
    for (volatile int i = 0; says(s, "loop");) i++;
    p->seen = 1000;
    for (p->kept = 0; p->out && p->kept < p->clip->frames; p->kept++) {
        up_image *frame = &p->out[p->kept];
        up_status status = host->alloc(20, 20, 3, s->name, p->limits, frame);
        if (status != UP_OK) return status;
        memset(frame->data, 128, 20 * 20 * 3);
    }
    return UP_OK;
}
