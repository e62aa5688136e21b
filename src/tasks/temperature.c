/* temperature.c - the table of kinds of tasks and whose temperature each takes where the model has none of
 * its name, nearest first: this project's names, then those of the released models. */
#include "tasks/temperature.h"

#include <stddef.h>
#include <string.h>

enum { NEAREST = 3 };
static const struct {
    const char *kind, *nearest[NEAREST];
} kinds[] = {
    {"image_classification", {"img_cls"}},
    {"video_classification", {"video_cls"}},
    {"text_classification", {"text_retrieval", "retrieve"}},
    {"image_text_retrieval", {"retrieve"}},
    {"video_text_retrieval", {"image_text_retrieval", "retrieve"}},
    {"text_retrieval", {"retrieve"}},
    {"mlm", {"text_mlm", "downstream"}},
    {"text_mlm", {"mlm", "downstream"}},
    {"image_mlm", {"mlm", "downstream"}},
    {"vqa", {"image_mlm", "mlm", "downstream"}},
    {"ar", {"text_caption"}},
    {"text_caption", {"ar"}},
    {"caption", {NULL}},
    {"video_caption", {"caption"}},
};

int up_task_temperature(const up_config *config, const char *name) {
    size_t row = 0, count = sizeof kinds / sizeof kinds[0];
    int index = up_config_task(config, name);
    if (index >= 0) return index;
    while (row < count && strcmp(kinds[row].kind, name)) row++;
    if (row == count) return -1;
    for (int i = 0; i < NEAREST && kinds[row].nearest[i]; i++) {
        index = up_config_task(config, kinds[row].nearest[i]);
        if (index >= 0) return index;
    }
    return 0;
}
