/* file.c - whole files in and out of memory. A file is replaced in the order that survives a crash on POSIX
 * systems: write aside, flush, fsync, close, rename, fsync the folder; an error at any of these steps is
 * reported. */
#include "files/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the process has no room for is not the file's fault. */
static up_status refused(const char *path, const char *what) {
    int no_room = errno == ENOMEM || errno == EMFILE || errno == ENFILE;
    return up_fail(no_room ? UP_ERR_MEMORY : UP_ERR_IO, path, "%s: %s", what, strerror(errno));
}

static up_status read_all(int file, const char *path, char *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t got = read(file, data + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return refused(path, "cannot read");
        if (got == 0)
            return up_fail(UP_ERR_IO, path, "ended after %zu bytes while it was read; wanted %zu", done,
                           size);
        done += (size_t)got;
    }
    return UP_OK;
}

up_status up_file_open(const char *path, int *file, int64_t *size) {
    up_status status = UP_OK;
    struct stat about;
    *size = 0;
    *file = -1;
    if (!*path) return up_fail(UP_ERR_ARGUMENT, "file", "the path is empty");
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to wait for a pipe's other end */
    if (opened < 0) return refused(path, "cannot open");
    if (fstat(opened, &about)) UP_GO(refused(path, "cannot read"));
    if (S_ISDIR(about.st_mode)) UP_GO(up_fail(UP_ERR_IO, path, "is a folder; wanted a file"));
    if (!S_ISREG(about.st_mode)) UP_GO(up_fail(UP_ERR_IO, path, "is not a regular file"));
    *size = about.st_size;
    *file = opened;
    return UP_OK;
done:
    close(opened);
    return status;
}

up_status up_file_read(const char *path, void **data, size_t *size) {
    up_status status = UP_OK;
    char *buffer = NULL;
    int file;
    int64_t bytes;
    *data = NULL;
    *size = 0;
    UP_TRY(up_file_open(path, &file, &bytes));
    buffer = malloc((size_t)bytes + 1);
    if (!buffer) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its %lld bytes", (long long)bytes));
    UP_GO(read_all(file, path, buffer, (size_t)bytes));
    buffer[bytes] = 0;
    *data = buffer;
    *size = (size_t)bytes;
    buffer = NULL;
done:
    free(buffer);
    close(file);
    return status;
}

up_status up_file_map(const char *path, void **data, size_t *size) {
    up_status status = UP_OK;
    int file;
    int64_t bytes;
    *data = NULL;
    *size = 0;
    UP_TRY(up_file_open(path, &file, &bytes));
    if (bytes == 0) UP_GO(up_fail(UP_ERR_FORMAT, path, "is empty"));
    void *map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (map == MAP_FAILED)
        UP_GO(up_fail(errno == ENOMEM ? UP_ERR_MEMORY : UP_ERR_IO, path, "cannot map: %s", strerror(errno)));
    *data = map;
    *size = (size_t)bytes;
done:
    close(file);
    return status;
}

void up_file_release(const void *data, size_t size) {
    size_t lead = (uintptr_t)data % (size_t)sysconf(_SC_PAGESIZE);
    if (size) madvise((char *)data - lead, size + lead, MADV_DONTNEED);
}

static up_status open_partial(const char *path, const char *mode, up_file_writer *writer) {
    struct stat about;
    *writer = (up_file_writer){0};
    if (!*path) return up_fail(UP_ERR_ARGUMENT, "file", "the path is empty");
    /* A rename would replace a device or a pipe by a file, so only files are replaced. */
    if (!stat(path, &about) && !S_ISREG(about.st_mode))
        return up_fail(UP_ERR_IO, path, "is %s; wanted a file",
                       S_ISDIR(about.st_mode) ? "a folder" : "not a regular file");
    writer->path = strdup(path);
    if (!writer->path || asprintf(&writer->partial, "%s.partial", path) < 0) {
        writer->partial = NULL;
        up_file_abort(writer);
        return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
    }
    writer->stream = fopen(writer->partial, mode);
    if (writer->stream) return UP_OK;
    up_status status = refused(path, "cannot write");
    free(writer->partial); /* nothing was created, so nothing is removed */
    writer->partial = NULL;
    up_file_abort(writer);
    return status;
}

up_status up_file_begin(const char *path, up_file_writer *writer) {
    return open_partial(path, "wbe", writer);
}

void up_file_leave(up_file_writer *writer) {
    free(writer->partial);
    writer->partial = NULL;
    up_file_abort(writer);
}

up_status up_file_continue(const char *path, int64_t size, up_file_writer *writer) {
    up_status status = UP_OK;
    struct stat about;
    UP_TRY(open_partial(path, "r+be", writer));
    int file = fileno(writer->stream);
    if (fstat(file, &about)) UP_GO(refused(path, "cannot read"));
    if (about.st_size < size)
        UP_GO(up_fail(UP_ERR_FORMAT, path, "its partial file has %lld bytes; wanted %lld",
                      (long long)about.st_size, (long long)size));
    if (ftruncate(file, size)) UP_GO(refused(path, "cannot write"));
    if (fseeko(writer->stream, size, SEEK_SET)) UP_GO(refused(path, "cannot write"));
done:
    if (status != UP_OK) up_file_leave(writer);
    return status;
}

up_status up_file_put(up_file_writer *writer, const void *data, size_t size) {
    if (size && fwrite(data, 1, size, writer->stream) != size) return refused(writer->path, "cannot write");
    return UP_OK;
}

/* EINVAL, ENOTSUP: this file system syncs no folders, and a rename there is as lasting as it gets. */
up_status up_folder_sync(const char *folder) {
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return refused(folder, "cannot sync");
    up_status status = UP_OK;
    if (fsync(file) && errno != EINVAL && errno != ENOTSUP) status = refused(folder, "cannot sync");
    close(file);
    return status;
}

static up_status sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder) return up_fail(UP_ERR_MEMORY, path, "no memory for the name of its folder");
    up_status status = up_folder_sync(folder);
    free(folder);
    return status;
}

up_status up_file_commit(up_file_writer *writer) {
    up_status status = UP_OK;
    FILE *stream = writer->stream;
    if (ferror(stream)) UP_GO(up_fail(UP_ERR_IO, writer->path, "cannot write: an earlier write failed"));
    if (fflush(stream)) UP_GO(refused(writer->path, "cannot write"));
    if (fsync(fileno(stream))) UP_GO(refused(writer->path, "cannot sync"));
    writer->stream = NULL;
    if (fclose(stream)) UP_GO(refused(writer->path, "cannot close"));
    if (rename(writer->partial, writer->path)) UP_GO(refused(writer->path, "cannot replace"));
    free(writer->partial); /* it is the file now: nothing to remove */
    writer->partial = NULL;
    UP_GO(sync_folder_of(writer->path));
done:
    up_file_abort(writer);
    return status;
}

void up_file_abort(up_file_writer *writer) {
    if (writer->stream) fclose(writer->stream); /* the content is thrown away, so is this close's error */
    if (writer->partial) unlink(writer->partial);
    free(writer->partial);
    free(writer->path);
    *writer = (up_file_writer){0};
}

up_status up_file_write(const char *path, const void *data, size_t size) {
    up_file_writer writer;
    UP_TRY(up_file_begin(path, &writer));
    up_status status = up_file_put(&writer, data, size);
    if (status == UP_OK) return up_file_commit(&writer);
    up_file_abort(&writer);
    return status;
}

up_status up_make_folders(const char *path) {
    up_status status = UP_OK;
    struct stat about;
    if (!*path) return up_fail(UP_ERR_ARGUMENT, "folder", "the path is empty");
    char *part = strdup(path);
    if (!part) return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
    for (char *c = part + 1;; c++) {
        char here = *c;
        if (here && here != '/') continue;
        *c = 0;
        if (mkdir(part, 0777) && errno != EEXIST) UP_GO(refused(part, "cannot create the folder"));
        if (stat(part, &about)) UP_GO(refused(part, "cannot create the folder"));
        if (!S_ISDIR(about.st_mode)) UP_GO(up_fail(UP_ERR_IO, part, "is a file; wanted a folder"));
        *c = here;
        if (!here) break;
    }
done:
    free(part);
    return status;
}
