/* jsonl.c - one JSON object a line (jsonlines.org). Each line is one unbuffered write, so that readers see
 * whole lines. */
#include "files/jsonl.h"
#include "files/file.h"
#include "files/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

up_status up_jsonl_open(const char *path, up_jsonl *log) {
    *log = (up_jsonl){.file = -1, .path = strdup(path)};
    if (!log->path) return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
    log->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log->file >= 0) return UP_OK;
    up_status status = up_fail(UP_ERR_IO, path, "cannot write: %s", strerror(errno));
    free(log->path);
    log->path = NULL;
    return status;
}

static up_status append_line(const up_jsonl *log, const char *line, size_t size) {
    struct stat before;
    if (fstat(log->file, &before)) return up_fail(UP_ERR_IO, log->path, "cannot write: %s", strerror(errno));
    for (size_t done = 0; done < size;) {
        ssize_t put = write(log->file, line + done, size - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            up_status status = up_fail(UP_ERR_IO, log->path, "cannot write: %s", strerror(errno));
            if (done && ftruncate(log->file, before.st_size))
                return up_fail(UP_ERR_IO, log->path, "cannot write, and its last line is torn: %s",
                               strerror(errno));
            return status;
        }
        done += (size_t)put;
    }
    return UP_OK;
}

up_status up_jsonl_append(up_jsonl *log, const json_t *object) {
    if (!json_is_object(object))
        return up_fail(UP_ERR_ARGUMENT, log->path, "a line that is not a JSON object");
    char *line;
    size_t length;
    UP_TRY(up_json_write(log->path, object, JSON_COMPACT, &line, &length));
    line[length] = '\n';
    up_status status = append_line(log, line, length + 1);
    free(line);
    return status;
}

up_status up_jsonl_close(up_jsonl *log) {
    up_status status = UP_OK;
    /* EINVAL: a terminal or a pipe, which has nothing to sync */
    if (fsync(log->file) && errno != EINVAL)
        status = up_fail(UP_ERR_IO, log->path, "cannot sync: %s", strerror(errno));
    if (close(log->file) && status == UP_OK)
        status = up_fail(UP_ERR_IO, log->path, "cannot close: %s", strerror(errno));
    free(log->path);
    *log = (up_jsonl){.file = -1};
    return status;
}

static up_status keeps(const char *path, size_t number, const char *line, size_t length, int64_t last_step,
                       int *keep) {
    char what[512];
    json_t *object;
    up_status status = UP_OK;
    snprintf(what, sizeof what, "%s:%zu", path, number);
    UP_TRY(up_json_read(what, line, length, JSON_REJECT_DUPLICATES, &object));
    const json_t *step = json_object_get(object, "step");
    *keep = !json_is_integer(step) || json_integer_value(step) <= last_step;
    if (!json_is_object(object) || (step && !json_is_integer(step)))
        status = up_fail(UP_ERR_FORMAT, what, "not a JSON object with a whole number as its step");
    json_decref(object);
    return status;
}

up_status up_jsonl_truncate(const char *path, int64_t last_step) {
    up_status status = UP_OK;
    void *data;
    size_t size, kept = 0;
    if (access(path, F_OK) && errno == ENOENT) return UP_OK;
    UP_TRY(up_file_read(path, &data, &size));
    char *text = data, *line = text, *end = text + size, *stop;
    for (size_t number = 1; (stop = memchr(line, '\n', (size_t)(end - line))); number++, line = stop + 1) {
        int keep;
        size_t length = (size_t)(stop + 1 - line);
        UP_GO(keeps(path, number, line, length, last_step, &keep));
        if (!keep) continue;
        memmove(text + kept, line, length);
        kept += length;
    }
    if (kept != size) UP_GO(up_file_write(path, text, kept));
done:
    free(text);
    return status;
}
