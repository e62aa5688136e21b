/* reader.h - what a reader of a dataset's layout is: one row of readers.c. */
#ifndef UP_DATASETS_READER_H
#define UP_DATASETS_READER_H

#include "data/dataset.h"

/* A reader is one of two kinds. With `parse`, samples are lines of one text file, which stays what is read;
 * `index` finds them. Without, `index` makes a record of each sample. */
struct up_reader {
    const char *name; /* of the key `format` */
    const char *what; /* one line */
    const char *ends; /* endings of the names that it is guessed by, divided by spaces; NULL: never guessed */
    int folder;       /* 1: a folder is */
    int several;      /* 1: a sample may take several lines */
    int document;     /* 1: texts go on in the next line */
    up_status (*open)(up_dataset *dataset); /* may be NULL: before lines are parsed */
    up_status (*index)(up_dataset *dataset, up_sample_index_writer *writer);
    up_status (*parse)(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
};

extern const up_reader up_readers[]; /* ended by a row without a name */

/* text.c: lines */
up_status up_read_lines(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_parse_line(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
/* lists.c: TSV, CSV, JSON lines */
up_status up_open_tsv(up_dataset *dataset);
up_status up_read_tsv(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_parse_tsv(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
up_status up_open_csv(up_dataset *dataset);
up_status up_read_csv(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_parse_csv(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
up_status up_parse_jsonl(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
up_status up_open_glue(up_dataset *dataset);
up_status up_parse_glue(const up_dataset *dataset, const char *line, size_t size, up_sample *out);
/* folders.c, videos.c, captions.c, annotations.c, shards.c */
up_status up_read_folder(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_imagenet(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_kinetics(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_moments(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_flickr30k(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_msvd(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_karpathy(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_coco(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_regions(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_msrvtt(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_vqa(up_dataset *dataset, up_sample_index_writer *writer);
up_status up_read_shards(up_dataset *dataset, up_sample_index_writer *writer);

/* Shared. Each line of a file in turn, without its end; number from 1. */
typedef up_status (*up_each_line)(void *context, char *line, size_t number);
up_status up_datasets_each_line(const char *path, up_each_line each, void *context);
/* "FOLDER/NAME", malloc'ed; folder NULL: NAME as it is. */
up_status up_datasets_join(const char *folder, const char *name, char **out);
/* Values of a JSON object as values of a sample: texts and numbers under their key, lists as several. */
up_status up_datasets_add_json(up_sample *sample, const json_t *object);
/* A text's value under another name; nothing where it is NULL. */
up_status up_datasets_add(up_sample *sample, const char *name, const char *text);

#endif
