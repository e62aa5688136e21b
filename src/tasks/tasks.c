/* tasks.c - the table of tasks. A new task is a new row (and its name in the list below). */
#include "tasks/tasks.h"

#include <stddef.h>
#include <string.h>

const up_task up_tasks_table[] = {
    /* name                  image video text  objective    smoothing temperature */
    {"image_classification", 1, 0, 0, UP_CLASSIFY, 0.1, NULL},
    {"video_classification", 0, 1, 0, UP_CLASSIFY, 0.1, NULL},
    {"mlm", 0, 0, 1, UP_MLM, 0.0, NULL},
    {"ar", 0, 0, 1, UP_AR, 0.0, NULL},
    {"image_mlm", 1, 0, 1, UP_MLM, 0.0, NULL},
    {"caption", 1, 0, 1, UP_AR, 0.0, NULL},
    {"image_text_retrieval", 1, 0, 0, UP_RETRIEVE, 0.1, NULL},
    {"text_retrieval", 0, 0, 1, UP_RETRIEVE, 0.1, NULL},
    {"video_text_retrieval", 0, 1, 0, UP_RETRIEVE, 0.1, "image_text_retrieval"},
    {"video_caption", 0, 1, 1, UP_AR, 0.0, "caption"},
    {"text_classification", 0, 0, 1, UP_CLASSIFY, 0.1, "text_retrieval"},
    {"vqa", 1, 0, 1, UP_ANSWER, 0.1, "image_mlm"},
    {NULL, 0, 0, 0, UP_CLASSIFY, 0.0, NULL},
};

const char *const up_task_names[] = {
    "image_classification",
    "video_classification",
    "mlm",
    "ar",
    "image_mlm",
    "caption",
    "image_text_retrieval",
    "text_retrieval",
    "video_text_retrieval",
    "video_caption",
    "text_classification",
    "vqa",
    NULL,
};

const up_task *up_task_find(const char *name) {
    for (const up_task *t = up_tasks_table; t->name; t++)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}
