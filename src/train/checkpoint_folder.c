/* checkpoint_folder.c - the checkpoints in a run's folder by their names: listed, pruned, what was left half
 * written removed. A folder without ".partial" is whole, and an older one is never touched before the newer
 * is. */
#include "train/checkpoint.h"
#include "files/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_DIGITS = 8 };

up_status up_checkpoint_path(char out[UP_PATH_SIZE], const char *folder, const char *name) {
    if (snprintf(out, UP_PATH_SIZE, "%s/%s", folder, name) >= UP_PATH_SIZE)
        return up_fail(UP_ERR_ARGUMENT, folder, "path too long");
    return UP_OK;
}

/* NULL at the end, and with errno set after a failure. */
static struct dirent *next_entry(DIR *d) {
    errno = 0;
    return readdir(d);
}

void up_checkpoint_remove(const char *folder) {
    char path[UP_PATH_SIZE];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && up_checkpoint_path(path, folder, e->d_name) == UP_OK) unlink(path);
    if (d) closedir(d);
    rmdir(folder);
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static void name_of(int64_t step, const char *ending, char out[64]) {
    snprintf(out, 64, "checkpoint-%0*lld%s", NAME_DIGITS, (long long)step, ending);
}

/* What a name in the run's folder says: 1 and the step of a checkpoint, 2 one left half written, else 0. */
static int kind_of(const char *entry, int64_t *step) {
    long long number;
    char name[64];
    if (sscanf(entry, "checkpoint-%lld", &number) != 1 || number < 0) return 0;
    *step = number;
    name_of(number, "", name);
    if (!strcmp(entry, name)) return 1;
    name_of(number, ".partial", name);
    return strcmp(entry, name) ? 0 : 2;
}

/* Steps of the run's checkpoints (kind 1) or of those left half written (kind 2), newest first; *count of
 * them. */
up_status up_checkpoint_list(const char *run, int kind, int64_t **steps, size_t *count) {
    up_status status = UP_OK;
    size_t room = 0;
    *steps = NULL;
    *count = 0;
    DIR *d = opendir(run);
    if (!d) return up_fail(UP_ERR_IO, run, "%s", strerror(errno));
    for (struct dirent *e; (e = next_entry(d));) {
        int64_t step = 0;
        if (kind_of(e->d_name, &step) != kind) continue;
        if (*count == room) {
            room = room ? 2 * room : 16;
            int64_t *grown = realloc(*steps, room * sizeof *grown);
            if (!grown) UP_GO(up_fail(UP_ERR_MEMORY, run, "%zu checkpoints to list", room));
            *steps = grown;
        }
        (*steps)[(*count)++] = step;
    }
    /* half a list would let a run begin at an older checkpoint, or at 0 */
    if (errno) status = up_fail(UP_ERR_IO, run, "cannot be listed: %s", strerror(errno));
    if (*count) qsort(*steps, *count, sizeof **steps, newest_first);
done:
    closedir(d);
    if (status != UP_OK) {
        free(*steps);
        *steps = NULL;
    }
    return status;
}

static up_status path_of(const char *run, int64_t step, const char *ending, char out[UP_PATH_SIZE]) {
    char name[64];
    name_of(step, ending, name);
    return up_checkpoint_path(out, run, name);
}

up_status up_checkpoint_folder(const up_trainer *t, int64_t step, const char *ending,
                               char out[UP_PATH_SIZE]) {
    return path_of(t->settings.run, step, ending, out);
}

up_status up_checkpoint_newest(const char *run, char out[UP_PATH_SIZE]) {
    int64_t *steps;
    size_t count;
    UP_TRY(up_checkpoint_list(run, 1, &steps, &count));
    *out = 0;
    up_status status = count ? path_of(run, steps[0], "", out) : UP_OK;
    free(steps);
    return status;
}

static int kept_for_good(const up_trainer *t, int64_t step) {
    return t->settings.keep_every && step % t->settings.keep_every == 0;
}

up_status up_checkpoint_prune(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    char folder[UP_PATH_SIZE], partial[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_list(t->settings.run, 1, &steps, &count));
    for (size_t i = (size_t)t->settings.keep_last; i < count; i++)
        if (!kept_for_good(t, steps[i]) && up_checkpoint_folder(t, steps[i], "", folder) == UP_OK &&
            up_checkpoint_folder(t, steps[i], ".partial", partial) == UP_OK &&
            !rename(folder, partial)) /* what is removed in part must not look whole */
            up_checkpoint_remove(partial);
    free(steps);
    return UP_OK;
}

/* What a run that was killed while it saved has left: nobody else writes in this folder (trainer.c locks it).
 */
up_status up_checkpoint_remove_partial(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    char partial[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_list(t->settings.run, 2, &steps, &count));
    for (size_t i = 0; i < count; i++)
        if (up_checkpoint_folder(t, steps[i], ".partial", partial) == UP_OK) up_checkpoint_remove(partial);
    free(steps);
    return UP_OK;
}
