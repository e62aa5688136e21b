/* temperature.c - the table of kinds of tasks and whose temperature each takes, nearest first: this project's
 * names, then those of the released models. */
#include "tasks/temperature.h"

#include <stddef.h>
#include <string.h>

enum { NEAREST = 4 };
static const struct {
    const char *kind, *nearest[NEAREST];
} kinds[] = {
    {"image_classification", {"image_classification", "img_cls"}},
    {"video_classification", {"video_classification", "video_cls"}},
    {"text_classification", {"text_classification", "text_retrieval", "retrieve"}},
    {"image_text_retrieval", {"image_text_retrieval", "retrieve"}},
    {"video_text_retrieval", {"video_text_retrieval", "image_text_retrieval", "retrieve"}},
    {"text_retrieval", {"text_retrieval", "retrieve"}},
    {"mlm", {"text_mlm", "mlm", "downstream"}},
    {"image_mlm", {"image_mlm", "mlm", "downstream"}},
    {"vqa", {"vqa", "image_mlm", "mlm", "downstream"}},
    {"ar", {"ar", "text_caption"}},
    {"caption", {"caption"}},
    {"video_caption", {"video_caption", "caption"}},
};

int up_task_temperature(const up_config *config, const char *name) {
    size_t row = 0, count = sizeof kinds / sizeof kinds[0];
    while (row < count && strcmp(kinds[row].kind, name)) row++;
    if (row == count) return up_config_task(config, name);
    for (int i = 0; i < NEAREST && kinds[row].nearest[i]; i++) {
        int index = up_config_task(config, kinds[row].nearest[i]);
        if (index >= 0) return index;
    }
    return 0;
}
