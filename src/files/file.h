/* file.h - whole files in and out of memory, and the one way a file is replaced: written aside, synced,
 * renamed. */
#ifndef UP_FILES_FILE_H
#define UP_FILES_FILE_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Open a regular file for reading (a folder, a pipe or an empty path is an error that names it, and a pipe is
 * not waited for). *file is a descriptor that the caller closes, -1 after a failure. */
up_status up_file_open(const char *path, int *file, int64_t *size);

/* Read a whole regular file. *data is malloc'ed, with one extra NUL byte behind *size bytes. */
up_status up_file_read(const char *path, void **data, size_t *size);

/* A whole regular file in memory that its changes do not reach, nor the other way round; munmap lets it go.
 * An empty file is an error. It must not be shortened while it is mapped: the system would end the program.
 */
up_status up_file_map(const char *path, void **data, size_t *size);

/* Part of such a mapping is not needed for now: its memory may go, the file has it still. Changes are lost.
 */
void up_file_release(const void *data, size_t size);

/* A file being written aside as "<path>.partial"; commit syncs it, renames it over `path` and syncs the
 * folder, so that `path` is either the old file or the whole new one. abort (also after a failure) removes
 * the partial file. */
typedef struct up_file_writer {
    FILE *stream;
    char *path, *partial;
} up_file_writer;
up_status up_file_begin(const char *path, up_file_writer *writer);
up_status up_file_put(up_file_writer *writer, const void *data, size_t size);
up_status up_file_commit(up_file_writer *writer);
void up_file_abort(up_file_writer *writer);

/* For work that may be broken off: go on behind the first `size` bytes of the partial file, which must have
 * so many; and close it without removing it. */
up_status up_file_continue(const char *path, int64_t size, up_file_writer *writer);
void up_file_leave(up_file_writer *writer);

/* Write all of it in one call with the same guarantee. */
up_status up_file_write(const char *path, const void *data, size_t size);

/* Create a folder and its parents. */
up_status up_make_folders(const char *path);

/* Make the names in a folder last: a rename may be lost in a crash until then. */
up_status up_folder_sync(const char *folder);

#endif
