/* settings.c - the schema of a task's entry in a configuration. */
#include "tasks/settings.h"
#include "tasks/tasks.h"

#include <string.h>

static const char *const heads[] = {"auto", "none", "joint", "linear", NULL};

#define TASK(field) UP_CONFIG_AT(up_task_settings, field)
static const up_config_row task_rows[] = {
    {"name", UP_CONFIG_STRING, TASK(name), .help = "for logs and overrides; default: the kind"},
    {"kind", UP_CONFIG_CHOICE, TASK(kind), .choices = &up_tasks_table[0].name,
     .choice_stride = sizeof(up_task), .required = true, .help = "row of the task table"},
    {"data", UP_CONFIG_STRING, TASK(data), .required = true, .help = "TSV list with a line of column names"},
    {"image", UP_CONFIG_STRING, TASK(image), .fallback = "image", .help = "column of picture files"},
    {"video", UP_CONFIG_STRING, TASK(video), .fallback = "video", .help = "column of video files"},
    {"text", UP_CONFIG_STRING, TASK(text), .fallback = "text", .help = "column of texts"},
    {"text_pair", UP_CONFIG_STRING, TASK(text_pair),
     .help = "column of a second text behind the first: pairs of sentences"},
    {"target", UP_CONFIG_STRING, TASK(target), .fallback = "label",
     .help = "column of class names, texts or answers"},
    {"classes", UP_CONFIG_STRING, TASK(classes),
     .help = "file of class names or answers, one a line; default: those that the rows have"},
    {"question", UP_CONFIG_STRING, TASK(question), .help = "vqa: the question, of all rows"},
    {"question_column", UP_CONFIG_STRING, TASK(question_column), .help = "vqa: or the column of questions"},
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
    {"limit", UP_CONFIG_INT, TASK(limit), .fallback = "0", .min = 0, .max = 1e9,
     .help = "evaluation: rows at most"},
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
    {.key = NULL},
};
const up_config_schema up_task_schema = {task_rows, sizeof(up_task_settings)};

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
    return UP_OK;
}
