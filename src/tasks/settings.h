/* settings.h - what a configuration says of one task: an entry of `tasks` or of `evaluations`. */
#ifndef UP_TASKS_SETTINGS_H
#define UP_TASKS_SETTINGS_H

#include "files/config.h"

/* What training changes about pictures and clips, and how it mixes pictures: data/augment.h. */
typedef struct up_augment_settings {
    int crop; /* index into random, resized */
    double area, ratio;
    int64_t operations;
    double magnitude, deviation, erase;
    double mixup, cutmix, choice;
} up_augment_settings;

/* Whether the linear head takes part (equation 4). */
typedef enum up_task_head {
    UP_HEAD_AUTO,  /* where a classification task is tuned as an overlay */
    UP_HEAD_NONE,  /* the similarity alone: a joint-probability estimator */
    UP_HEAD_JOINT, /* both */
    UP_HEAD_LINEAR /* the head alone: a feature extractor */
} up_task_head;

typedef struct up_task_settings {
    char *name; /* for logs; NULL = the kind */
    int kind;   /* index into up_tasks_table */
    /* the dataset, see data/dataset.h; all but the first may be NULL */
    char *data, *format, *index, *split, *images, *videos, *annotations, *columns, *leave_out;
    char *image, *video, *text; /* names of the values that are the parts */
    char *text_pair;            /* of a second text behind the first; NULL: none */
    char *target;               /* of class names, of texts to retrieve, or of answers */
    char *classes;              /* the class names or answers, one a line; NULL: the format's, or the rows' */
    char *names;                /* what classes are called; NULL: as they are */
    char *question;             /* vqa: the question, the same for all rows; NULL: each row's */
    char *question_column;      /* name of the value that is a row's question */
    char *template_text;        /* target text with {} for the cell */
    char **templates;           /* evaluation: several of them, whose features are averaged */
    size_t template_count;
    double weight;    /* how often the task is drawn, relative to the others */
    int64_t batch;    /* samples an iteration */
    double smoothing; /* < 0: the task's default */
    double loss_weight;
    int64_t text_limit;      /* tokens of a text, the end token included */
    double mask;             /* share of words that MLM masks */
    int64_t sampled_targets; /* language tasks, training: the batch's own words and so many more; 0: all */
    int64_t resize;          /* short side before the crop; 0: the model's image_resize or video_resize */
    int64_t resize_most;     /* training: the short side is drawn from resize to this; 0: it is resize */
    int64_t frames, stride;  /* of a clip; 0: the model's */
    int64_t views, clips;    /* evaluation: cuts along the longer side, and clips of a video, averaged */
    int64_t limit;           /* evaluation: at most so many rows; 0 = all */
    double fraction;         /* of the rows that are taken, of each class alike */
    int64_t fraction_seed;   /* chooses them */
    int head;                /* up_task_head */
    bool equal_texts;        /* evaluation of retrieval: equal texts are right for each other's inputs */
    bool flip;               /* training: mirror pictures at random */
    bool scaled_decoding;    /* training: decode large JPEG pictures at 1/2, 1/4 or 1/8 */
    up_augment_settings augment;
} up_task_settings;

extern const up_config_schema up_task_schema;

/* Make its paths lead from the folder of the configuration. */
up_status up_task_settings_resolve(up_task_settings *settings, const char *config_path);

/* Fill what one key implies of another, after reading. */
up_status up_task_settings_fill(up_task_settings *settings);

#endif
