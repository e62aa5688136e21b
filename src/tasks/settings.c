/* settings.c - the schema of a task's entry in a configuration. */
#include "tasks/settings.h"
#include "tasks/tasks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const crops[] = {"random", "resized", NULL};
#define AUGMENT(field) UP_CONFIG_AT(up_augment_settings, field)
static const up_config_row augment_rows[] = {
    {"crop", UP_CONFIG_CHOICE, AUGMENT(crop), .choices = crops, .fallback = "random",
     .help = "random: at any place of the resized picture; resized: a random part of the picture, resized"},
    {"area", UP_CONFIG_REAL, AUGMENT(area), .fallback = "0.08", .min = 1e-6, .max = 1,
     .help = "crop resized: the part's share of the picture at the least"},
    {"ratio", UP_CONFIG_REAL, AUGMENT(ratio), .fallback = "1.3333333333333333", .min = 1, .max = 1000,
     .help = "crop resized: longer by shorter side at the most"},
    {"operations", UP_CONFIG_INT, AUGMENT(operations), .fallback = "0", .min = 0, .max = 100,
     .help = "RandAugment: operations a picture, each done with probability 1/2"},
    {"magnitude", UP_CONFIG_REAL, AUGMENT(magnitude), .fallback = "9", .min = 0, .max = 10,
     .help = "RandAugment: mean strength, of 10"},
    {"deviation", UP_CONFIG_REAL, AUGMENT(deviation), .fallback = "0.5", .min = 0, .max = 10,
     .help = "RandAugment: standard deviation of the strength"},
    {"erase", UP_CONFIG_REAL, AUGMENT(erase), .fallback = "0", .min = 0, .max = 1,
     .help = "probability that a rectangle becomes noise"},
    {"mixup", UP_CONFIG_REAL, AUGMENT(mixup), .fallback = "0", .min = 0, .max = 1000,
     .help = "image_classification: alpha of the shares of two pictures; 0: no mixup"},
    {"cutmix", UP_CONFIG_REAL, AUGMENT(cutmix), .fallback = "0", .min = 0, .max = 1000,
     .help = "image_classification: alpha of the area taken from another picture; 0: no cutmix"},
    {"switch", UP_CONFIG_REAL, AUGMENT(choice), .fallback = "0.5", .min = 0, .max = 1,
     .help = "share of batches with cutmix where there is mixup too"},
    {.key = NULL},
};
static const up_config_schema augment_schema = {augment_rows, sizeof(up_augment_settings)};

static const char *const heads[] = {"auto", "none", "joint", "linear", NULL};

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
    {"text_pair", UP_CONFIG_STRING, TASK(text_pair),
     .help = "column of a second text behind the first: pairs of sentences"},
    {"target", UP_CONFIG_STRING, TASK(target), .fallback = "label",
     .help = "column of class names, texts or answers"},
    {"classes", UP_CONFIG_STRING, TASK(classes),
     .help =
         "file of class names or answers, one a line; default: the format's, or those that the rows have"},
    {"names", UP_CONFIG_STRING, TASK(names),
     .help =
         "file of what classes are called: a class, then its names divided by commas; training draws one"},
    {"question", UP_CONFIG_STRING, TASK(question),
     .help = "vqa: the question, of all rows; default: that of each row"},
    {"question_column", UP_CONFIG_STRING, TASK(question_column), .fallback = "question",
     .help = "vqa: column of questions, where question names none"},
    {"template", UP_CONFIG_STRING, TASK(template_text), .help = "target text, every {} stands for the cell"},
    {"templates", UP_CONFIG_STRING, UP_CONFIG_LIST(up_task_settings, templates, template_count),
     .help = "evaluation: several, e.g. [\"a photo of a {}\", \"a drawing of a {}\"]: the mean of a class's "
             "features"},
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
    {"resize_most", UP_CONFIG_INT, TASK(resize_most), .fallback = "0", .min = 0, .max = 16384,
     .help = "training: the short side is drawn from resize to this; 0: it is resize"},
    {"frames", UP_CONFIG_INT, TASK(frames), .fallback = "0", .min = 0, .max = 4096,
     .help = "frames of a clip; 0: the model's, which are the most"},
    {"stride", UP_CONFIG_INT, TASK(stride), .fallback = "0", .min = 0, .max = 1048576,
     .help = "every n-th frame is taken; 0: the model's"},
    {"views", UP_CONFIG_INT, TASK(views), .fallback = "1", .min = 1, .max = 64,
     .help = "evaluation: crops along the longer side, averaged"},
    {"clips", UP_CONFIG_INT, TASK(clips), .fallback = "1", .min = 1, .max = 64,
     .help = "evaluation: clips of a video, averaged"},
    {"limit", UP_CONFIG_INT, TASK(limit), .fallback = "0", .min = 0, .max = 1e9,
     .help = "evaluation: rows at most"},
    {"equal_texts", UP_CONFIG_BOOL, TASK(equal_texts), .fallback = "false",
     .help = "evaluation of retrieval: a text that equals one of a row's own is right, too; false: its own "
             "alone"},
    {"fraction", UP_CONFIG_REAL, TASK(fraction), .fallback = "1", .min = 1e-9, .max = 1,
     .help = "share of the rows that is taken, drawn for each class alike, at least one"},
    {"fraction_seed", UP_CONFIG_INT, TASK(fraction_seed), .fallback = "1", .min = 0, .max = 9e15,
     .help = "chooses those rows"},
    {"head", UP_CONFIG_CHOICE, TASK(head), .choices = heads, .fallback = "auto",
     .help =
         "linear head of equation 4: none, joint with the similarity, or linear: the head alone; auto: joint "
         "where a classification is tuned with shared weights, else none"},
    {"flip", UP_CONFIG_BOOL, TASK(flip), .fallback = "false", .help = "training: mirror pictures at random"},
    {"scaled_decoding", UP_CONFIG_BOOL, TASK(scaled_decoding), .fallback = "false",
     .help = "training: an approximation: decode large JPEG pictures at 1/2, 1/4 or 1/8"},
    {"augment", UP_CONFIG_MAP, TASK(augment), .map = &augment_schema,
     .help = "training: what is changed about pictures and clips"},
    {.key = NULL},
};
const up_config_schema up_task_schema = {task_rows, sizeof(up_task_settings)};

/* Keys that go together, or with some kinds of task alone. */
static up_status check_pixels(const up_task_settings *t, const up_task *task) {
    const up_augment_settings *a = &t->augment;
    int one_picture = task->image && !task->video && !task->text && task->targets == UP_TARGETS_CLASSES;
    if (t->resize_most && (!t->resize || t->resize_most < t->resize))
        return up_fail(UP_ERR_ARGUMENT, t->name, "resize_most %lld wants a resize from 1 to it, not %lld",
                       (long long)t->resize_most, (long long)t->resize);
    if ((a->mixup > 0 || a->cutmix > 0) && !one_picture)
        return up_fail(UP_ERR_ARGUMENT, t->name, "mixup and cutmix are for pictures with classes, not for %s",
                       task->name);
    if (a->crop && t->scaled_decoding)
        return up_fail(UP_ERR_ARGUMENT, t->name, "crop resized wants every pixel: no scaled_decoding");
    if ((t->frames || t->stride || t->clips > 1) && !task->video)
        return up_fail(UP_ERR_ARGUMENT, t->name, "frames, stride and clips are for videos, not for %s",
                       task->name);
    return UP_OK;
}

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
    if (t->head > UP_HEAD_NONE && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "a linear head is for classes, %s is compared with none",
                       task->name);
    if (t->template_count && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "templates are for classes, %s is compared with none",
                       task->name);
    if (t->text_pair && task->text != &up_text_whole)
        return up_fail(UP_ERR_ARGUMENT, t->name, "text_pair is for whole texts, %s has none", task->name);
    if (t->classes && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "%s is not compared with classes", task->name);
    if (t->names && task->targets != UP_TARGETS_CLASSES)
        return up_fail(UP_ERR_ARGUMENT, t->name, "names are of classes, with which %s is not compared",
                       task->name);
    return check_pixels(t, task);
}
