/* zip.h - zip archives, as far as PyTorch's files need them: members of a mapped archive found by name, their
 * bytes where they lie (stored) or inflated; and archives written member by member. */
#ifndef UP_FILES_ZIP_H
#define UP_FILES_ZIP_H

#include "files/file.h"

typedef struct up_zip_member {
    char *name;
    int deflated;         /* 0: stored */
    size_t packed, bytes; /* in the archive, and as the member was */
    uint32_t crc;         /* CRC-32 of the member */
    size_t begin;         /* of its bytes in the archive */
} up_zip_member;

typedef struct up_zip up_zip;

/* The directory of an archive in memory, which is borrowed and must outlive it; `path` is named in messages.
 * Refused: encrypted members, other methods than stored and deflated, names that leave the archive's folder
 * or stand twice, members that overlap, and sizes that are not true or could not be. */
up_status up_zip_open(const char *path, const void *data, size_t size, up_zip **out);
void up_zip_close(up_zip *zip); /* NULL is fine */

size_t up_zip_count(const up_zip *zip);
const up_zip_member *up_zip_at(const up_zip *zip, size_t i);           /* in the order of their places */
const up_zip_member *up_zip_find(const up_zip *zip, const char *name); /* or NULL */

/* The bytes of a member, checked against its CRC-32. *owned is NULL where they lie in the archive, else
 * memory that the caller frees. */
up_status up_zip_read(const up_zip *zip, const up_zip_member *member, const void **data, void **owned);

/* Writing, stored, into a file that up_file_begin opened: begin a member, put its bytes in one or more
 * pieces, end it; at last the directory. Bytes begin at multiples of 64 in the file, as PyTorch has them. */
typedef struct up_zip_writer up_zip_writer;
up_status up_zip_writer_create(up_file_writer *file, up_zip_writer **out);
up_status up_zip_begin(up_zip_writer *zip, const char *name, size_t bytes);
up_status up_zip_put(up_zip_writer *zip, const void *data, size_t bytes);
up_status up_zip_end(up_zip_writer *zip);
up_status up_zip_finish(up_zip_writer *zip);
void up_zip_writer_free(up_zip_writer *zip); /* NULL is fine */

#endif
