/* source.h - a task bound to its samples: rows of a list -> packed inputs with their labels. The middle of
 * the program's one road; the loader calls it ahead of training, evaluation calls it with fixed choices. What
 * the inputs are compared with is a target set (sets.h), which the source only names. */
#ifndef UP_TASKS_SOURCE_H
#define UP_TASKS_SOURCE_H

#include "data/dataset.h"
#include "data/decoders.h"
#include "data/lexicon.h"
#include "tasks/settings.h"
#include "tasks/tasks.h"
#include "uniperceiver/batch.h"
#include "uniperceiver/image.h"
#include "uniperceiver/loss.h"
#include "uniperceiver/target_set.h"
#include "uniperceiver/text.h"

/* What all tasks share. */
typedef struct up_world {
    const up_config *config;
    up_tokenizer *tokenizer;
    up_image_limits limits; /* of a picture or frame */
    up_decoders *decoders;  /* borrowed; NULL: pictures and clips are decoded in this process */
    int later;           /* 1: opening does not look whether labels are known: all samples are read anyway */
    int32_t *vocabulary; /* target set of the language tasks, ascending */
    int vocabulary_count;
    int32_t *vocabulary_index; /* [config->vocabulary] place of an id in it, or -1 */
} up_world;

typedef struct up_source {
    const up_task *task;
    const up_task_settings *settings; /* borrowed */
    const up_world *world;            /* borrowed */
    up_target_set *set;               /* borrowed; what its inputs are compared with: up_sets_bind */
    uint64_t number; /* of it among the sources of a run: tells their random choices apart. 0 at first */
    int temperature; /* index of the task's temperature in the model */
    up_dataset data;
    int head; /* 1: its classes are those of the model's linear head, which takes part in its loss */

    /* UP_TARGETS_CLASSES */
    up_lexicon names;     /* of the classes, by number */
    char *const *classes; /* [class_count] the names' words, when all are there */
    char **class_texts;   /* [class_count] what stands for them as a target */
    size_t class_count, text_room;
    int32_t *class_ids;    /* their texts as tokens, one after the other */
    int64_t *class_starts; /* [class_count + 1] */
    size_t *name_starts;   /* [class_count + 1] first of its names; NULL: no class has several */
    int32_t *name_ids;     /* all names as tokens */
    int64_t *name_at;      /* [name_starts[class_count] + 1] */
} up_source;

/* A sample of training that cannot be read, in whose place another was drawn. */
typedef struct up_bad_sample {
    size_t row;
    char reason[512]; /* names the file, or the list and its line */
} up_bad_sample;

/* 1 where a failure is a sample's own: what it says or what it names is missing or broken. The lack of memory
 * and what the settings ask for in vain are not. */
int up_is_of_sample(up_status status);

/* The work of one iteration. */
typedef struct up_work {
    const up_source *source;
    int64_t iteration;
    up_batch batch; /* inputs; Q = batch.readouts */
    up_batch
        targets;  /* sequences that belong to this batch alone and fill source->set; none: the set stands */
    up_loss loss; /* points into what follows */

    int32_t *labels; /* [Q] index of the true target, -1: left out; [Q, 2] where pictures were mixed */
    float *shares;   /* [Q, 2] what each of two labels has of a mixed picture */
    int32_t *groups; /* [targets.sequences] UP_TARGETS_TEXTS: the first sample of an equal text or picture */
    float *bias;     /* [targets.sequences] sampled targets: -log of how likely each was in the set */
    uint64_t *pictures; /* [targets.sequences] UP_TARGETS_TEXTS: of which picture or clip; 0: of none */
    int label_capacity, share_capacity, group_capacity, bias_capacity, picture_capacity;

    up_bad_sample *bad; /* [bad_count] in the order in which they were drawn; there after a failure too */
    int bad_count, bad_capacity;
} up_work;

/* Keep the settings' fraction of the rows: of each class alike, at least one of each (subset.c). */
up_status up_source_thin(up_source *source);

up_status up_source_open(const up_task_settings *settings, const up_world *world, up_source *out);
void up_source_close(up_source *source);

/* The class that a sample counts as, the first of several that is one: -1 where it names none. */
up_status up_source_class(const up_source *source, const up_sample *sample, size_t row, int *class);
/* 1 where a row is compared with anything: classes have rows that name none. */
up_status up_source_is_labelled(const up_source *source, size_t row, int *yes);
/* The picture or clip of a sample. */
up_status up_source_media(const up_source *source, const up_sample *sample, size_t row, up_media *out);
/* Who a sample's picture or clip is: equal for equal ones, 0 where it has none. */
uint64_t up_source_picture(const up_source *source, const up_sample *sample);
/* Fail because a sample has no value of this name: names what it has. */
up_status up_source_lacks(const up_source *source, size_t row, const up_sample *sample, const char *name);

/* What language tasks compare with. */
typedef enum up_vocabulary_choice {
    UP_VOCABULARY_AUTO,
    UP_VOCABULARY_CORPUS,
    UP_VOCABULARY_WHOLE
} up_vocabulary_choice;
extern const char *const up_vocabulary_names[]; /* ended by NULL */

/* CORPUS: ids of every text of the language tasks among `sources`, the end token included: all are tokenised.
 * WHOLE: every entry but <SPE>. AUTO: WHOLE where one of the sources is too large to be looked through. */
up_status up_world_collect(up_world *world, const up_source *sources, size_t count,
                           up_vocabulary_choice choice);
/* The vocabulary that a model holds; ids NULL: every entry but <SPE>. */
up_status up_world_set_targets(up_world *world, const int32_t *ids, int count);
/* The same together with the texts' own, which were collected; ids NULL: every entry but <SPE>. */
up_status up_world_join(up_world *world, const int32_t *ids, int count);
void up_world_free(up_world *world);

typedef struct up_build_options {
    int training;   /* random crops and masks, sampled targets; 0: centre crops, the same choices each time */
    uint64_t seed;  /* of every random choice, with the source's number and the sample's */
    uint64_t first; /* training: number of the first sample, counted over all epochs; the others follow.
                       Otherwise a sample's number is its row */
    int view;       /* evaluation: which of up_views(settings) */
} up_build_options;

/* groups [targets->sequences]: of each text target the first one that equals it. */
up_status up_group_targets(const up_batch *targets, int32_t *groups);
/* Make one of groups that have a picture in common; 0 is none. */
up_status up_group_pictures(const uint64_t *pictures, int count, int32_t *groups);

/* The row that training takes where `attempt` rows drawn for a sample could not be read, 1 at first. */
size_t up_source_replacement(const up_source *source, uint64_t seed, uint64_t sample, int attempt);

/* Build the work for `count` rows. The memory of `work` is used again from call to call. Training passes over
 * a row that cannot be read and notes it in work->bad; otherwise it is an error, as UP_ATTEMPTS of them in a
 * row are. */
enum { UP_ATTEMPTS = 100 };
up_status up_source_build(const up_source *source, const up_build_options *options, const size_t *rows,
                          int count, up_work *work);
/* Append all texts that a row of retrieval has as targets. */
up_status up_source_texts(const up_source *source, size_t row, up_batch *targets);
void up_work_free(up_work *work);
/* Room for `wanted` values of `size` bytes in an array of a work; `array` points to the pointer. */
up_status up_work_reserve(void *array, size_t size, int *capacity, int wanted);

#endif
