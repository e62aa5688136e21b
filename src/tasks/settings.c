/* settings.c - the schema of a task's entry in a configuration. */
#include "tasks/settings.h"
#include "tasks/tasks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK(field) UP_CONFIG_AT(up_task_settings, field)
static const up_config_row task_rows[] = {
    {"name", UP_CONFIG_STRING, TASK(name), .help = "for logs and overrides; default: the kind"},
    {"kind", UP_CONFIG_CHOICE, TASK(kind), .choices = &up_tasks_table[0].name,
     .choice_stride = sizeof(up_task), .required = true, .help = "row of the task table"},
    {"data", UP_CONFIG_STRING, TASK(data), .required = true,
     .help = "file or folder, relative to the configuration's folder"},
    {"format", UP_CONFIG_STRING, TASK(format),
     .help = "a reader's name; default: told by the name of the data"},
    {"index", UP_CONFIG_STRING, TASK(index),
     .help = "file that tells where samples lie; default: beside the data, in memory up to 64 MiB of it"},
    {"split", UP_CONFIG_STRING, TASK(split), .help = "part of the data, where the format has several"},
    {"images", UP_CONFIG_STRING, TASK(images), .help = "folder of picture files; default: the data's own"},
    {"videos", UP_CONFIG_STRING, TASK(videos), .help = "folder of video files; default: the data's own"},
    {"annotations", UP_CONFIG_STRING, TASK(annotations), .help = "second file of formats that have two"},
    {"columns", UP_CONFIG_STRING, TASK(columns),
     .help = "names of the columns of a list that has no line of them, divided by commas"},
    {"leave_out", UP_CONFIG_STRING, TASK(leave_out),
     .help = "file of keys of samples to leave out, one a line"},
    {"image", UP_CONFIG_STRING, TASK(image), .fallback = "image", .help = "column of picture files"},
    {"video", UP_CONFIG_STRING, TASK(video), .fallback = "video", .help = "column of video files"},
    {"text", UP_CONFIG_STRING, TASK(text), .fallback = "text", .help = "column of texts"},
    {"target", UP_CONFIG_STRING, TASK(target), .fallback = "label",
     .help = "column of class names, texts or answers"},
    {"classes", UP_CONFIG_STRING, TASK(classes),
     .help =
         "file of class names or answers, one a line; default: the format's, or those that the rows have"},
    {"names", UP_CONFIG_STRING, TASK(names),
     .help =
         "file of what classes are called: a class, then its names divided by commas; training draws one"},
    {"question", UP_CONFIG_STRING, TASK(question), .help = "vqa: the question; default: the column question"},
    {"template", UP_CONFIG_STRING, TASK(template_text), .help = "target text, every {} stands for the cell"},
    {"weight", UP_CONFIG_REAL, TASK(weight), .fallback = "1", .min = 0, .max = 1e6,
     .help = "how often it is drawn"},
    {"batch", UP_CONFIG_INT, TASK(batch), .fallback = "64", .min = 1, .max = 65536,
     .help = "samples an iteration"},
    {"smoothing", UP_CONFIG_REAL, TASK(smoothing), .fallback = "-1", .min = -1, .max = 0.99,
     .help = "label smoothing; -1: the task's default"},
    {"loss_weight", UP_CONFIG_REAL, TASK(loss_weight), .fallback = "1", .min = 0, .max = 1e6,
     .help = "of its loss"},
    {"text_limit", UP_CONFIG_INT, TASK(text_limit), .fallback = "32", .min = 2, .max = 65536,
     .help = "tokens of a text, the end token included"},
    {"mask", UP_CONFIG_REAL, TASK(mask), .fallback = "0.15", .min = 0.01, .max = 0.9,
     .help = "mlm: share of words"},
    {"sampled_targets", UP_CONFIG_INT, TASK(sampled_targets), .fallback = "0", .min = 0, .max = 1e9,
     .help = "training, language tasks: an approximation: compare with the batch's own words and so many "
             "drawn ones; 0: with the whole vocabulary"},
    {"resize", UP_CONFIG_INT, TASK(resize), .fallback = "0", .min = 0, .max = 16384,
     .help = "short side before the crop; 0: the model's"},
    {"limit", UP_CONFIG_INT, TASK(limit), .fallback = "0", .min = 0, .max = 1e9,
     .help = "evaluation: rows at most"},
    {"flip", UP_CONFIG_BOOL, TASK(flip), .fallback = "false", .help = "training: mirror pictures at random"},
    {"scaled_decoding", UP_CONFIG_BOOL, TASK(scaled_decoding), .fallback = "false",
     .help = "training: an approximation: decode large JPEG pictures at 1/2, 1/4 or 1/8"},
    {.key = NULL},
};
const up_config_schema up_task_schema = {task_rows, sizeof(up_task_settings)};

/* Where a path of the configuration leads: from the folder that the configuration lies in. */
static up_status resolve(char **path, const char *folder, size_t length) {
    char *joined;
    if (!*path || **path == '/' || !length) return UP_OK;
    if (asprintf(&joined, "%.*s%s", (int)length, folder, *path) < 0)
        return up_fail(UP_ERR_MEMORY, *path, "no memory for its path");
    free(*path);
    *path = joined;
    return UP_OK;
}

up_status up_task_settings_resolve(up_task_settings *t, const char *config_path) {
    const char *slash = strrchr(config_path, '/');
    size_t length = slash ? (size_t)(slash - config_path) + 1 : 0;
    char **paths[] = {&t->data,        &t->index,     &t->images,  &t->videos,
                      &t->annotations, &t->leave_out, &t->classes, &t->names};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) UP_TRY(resolve(paths[i], config_path, length));
    return UP_OK;
}

up_status up_task_settings_fill(up_task_settings *t) {
    const up_task *task = &up_tasks_table[t->kind];
    if (!t->name) t->name = strdup(task->name);
    if (!t->name) return up_fail(UP_ERR_MEMORY, "settings", "no memory for a name");
    if (t->smoothing < 0) t->smoothing = task->smoothing;
    if (t->sampled_targets && task->targets != UP_TARGETS_WORDS)
        return up_fail(UP_ERR_ARGUMENT, t->name, "sampled_targets is for language tasks, %s is none",
                       task->name);
    if (t->classes && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "%s is not compared with classes", task->name);
    if (t->names && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "names are of classes, with which %s is not compared",
                       task->name);
    return UP_OK;
}
