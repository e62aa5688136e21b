/* tasks.c - the table of tasks. A new task is a new row. */
#include "tasks/tasks.h"

#include <stdlib.h>
#include <string.h>

const up_task up_tasks_table[] = {
    {"image_classification", .image = 1, .targets = UP_TARGETS_CLASSES, .smoothing = 0.1, .head = 1,
     .nearest = {"img_cls"}},
    {"video_classification", .video = 1, .targets = UP_TARGETS_CLASSES, .smoothing = 0.1, .head = 1,
     .nearest = {"video_cls"}},
    {"mlm", .text = &up_text_masked, .targets = UP_TARGETS_WORDS, .metric = UP_METRIC_WORDS,
     .nearest = {"text_mlm", "downstream"}},
    {"ar", .text = &up_text_slots, .targets = UP_TARGETS_WORDS, .metric = UP_METRIC_WORDS,
     .nearest = {"text_caption"}},
    {"image_mlm", .image = 1, .text = &up_text_masked, .targets = UP_TARGETS_WORDS, .metric = UP_METRIC_WORDS,
     .nearest = {"mlm", "downstream"}},
    {"caption", .image = 1, .text = &up_text_slots, .targets = UP_TARGETS_WORDS,
     .metric = UP_METRIC_CAPTIONS},
    {"image_text_retrieval", .image = 1, .targets = UP_TARGETS_TEXTS, .both = 1, .smoothing = 0.1,
     .metric = UP_METRIC_RECALL, .nearest = {"retrieve"}},
    {"text_retrieval", .text = &up_text_whole, .targets = UP_TARGETS_TEXTS, .both = 1, .smoothing = 0.1,
     .metric = UP_METRIC_RECALL, .nearest = {"retrieve"}},
    {"video_text_retrieval", .video = 1, .targets = UP_TARGETS_TEXTS, .both = 1, .smoothing = 0.1,
     .metric = UP_METRIC_RECALL, .nearest = {"image_text_retrieval", "retrieve"}},
    {"video_caption", .video = 1, .text = &up_text_slots, .targets = UP_TARGETS_WORDS,
     .metric = UP_METRIC_CAPTIONS, .nearest = {"caption"}},
    {"text_classification", .text = &up_text_whole, .targets = UP_TARGETS_CLASSES, .smoothing = 0.1,
     .head = 1, .nearest = {"text_retrieval", "retrieve"}},
    {"vqa", .image = 1, .text = &up_text_question, .targets = UP_TARGETS_CLASSES, .smoothing = 0.1,
     .nearest = {"image_mlm", "mlm", "downstream"}},
    {.name = NULL},
};

const up_task *up_task_find(const char *name) {
    for (const up_task *t = up_tasks_table; t->name; t++)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}

/* Whose temperature it takes: 1 where `name` is among its nearest. */
static int is_near(const up_task *task, const char *name) {
    for (int i = 0; i < UP_TASK_NEAREST && task->nearest[i]; i++)
        if (!strcmp(task->nearest[i], name)) return 1;
    return 0;
}

int up_task_temperature(const up_config *config, const char *name) {
    int index = up_config_task(config, name);
    if (index >= 0) return index;
    const up_task *task = up_task_find(name);
    if (!task) { /* a name of the released models stands for the task that takes it first */
        for (task = up_tasks_table; task->name && !is_near(task, name);) task++;
        if (!task->name) return -1;
        index = up_config_task(config, task->name);
    }
    for (int i = 0; index < 0 && i < UP_TASK_NEAREST && task->nearest[i]; i++)
        index = up_config_task(config, task->nearest[i]);
    return index < 0 ? 0 : index;
}

up_status up_task_question(const char *question, char **text) {
    size_t length = strlen(question);
    *text = malloc(length + 2);
    if (!*text) return up_fail(UP_ERR_MEMORY, "question", "no memory for its text");
    strcpy(*text, question);
    if (!length || question[length - 1] != '?') strcpy(*text + length, "?");
    return UP_OK;
}

up_status up_task_target_text(const char *form, const char *cell, char **text) {
    if (!form) form = "{}";
    size_t holes = 0, length = strlen(cell);
    for (const char *hole = form; (hole = strstr(hole, "{}")); hole += 2) holes++;
    char *out = malloc(strlen(form) + holes * length + 1);
    *text = out;
    if (!out) return up_fail(UP_ERR_MEMORY, "template", "no memory for a target text");
    for (const char *hole; (hole = strstr(form, "{}")); form = hole + 2) {
        size_t head = (size_t)(hole - form);
        memcpy(out, form, head);
        memcpy(out + head, cell, length);
        out += head + length;
    }
    strcpy(out, form);
    return UP_OK;
}
