/* torch_file.h - tensors of a PyTorch checkpoint (a zip archive of a pickle and its storages), read as data:
 * nothing in it is ever called, and what is neither a plain tensor nor a harmless name is an error. And the
 * writer of such files. */
#ifndef UP_FILES_TORCH_FILE_H
#define UP_FILES_TORCH_FILE_H

#include "files/safetensors.h"

typedef struct up_torch_file up_torch_file;

/* Map a checkpoint and take the tensors of the dictionary under "model", "module" or "state_dict", else of
 * the root. Refused by name and place: what is no contiguous dense tensor there, a storage that is missing or
 * of another size than the pickle says, a tensor outside its storage. The file must not be shortened while
 * it is open. */
up_status up_torch_open(const char *path, up_torch_file **out);
void up_torch_close(up_torch_file *file); /* NULL is fine */

size_t up_torch_count(const up_torch_file *file);
const up_safetensor *up_torch_at(const up_torch_file *file, size_t i); /* in the order of the dictionary */
const up_safetensor *up_torch_find(const up_torch_file *file, const char *name); /* or NULL */

/* Check the bytes of a tensor's storage against their CRC-32, once, before the first use of its data. */
up_status up_torch_check(up_torch_file *file, const up_safetensor *tensor);
/* Its data are not needed for now: the memory that holds them may go. */
void up_torch_release(const up_torch_file *file, const up_safetensor *tensor);

/* Writing, as up_safetensors_begin, put, commit and abort: a dictionary of F32 tensors, by name, under
 * "model". */
typedef struct up_torch_writer up_torch_writer;
up_status up_torch_begin(const char *path, const up_safetensor *specs, size_t count, up_torch_writer **out);
up_status up_torch_put(up_torch_writer *writer, const void *data, size_t bytes);
up_status up_torch_commit(up_torch_writer *writer);
void up_torch_abort(up_torch_writer *writer); /* NULL is fine */

#endif
