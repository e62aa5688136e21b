/* classes.h - the class names or answers of a source, and what they are called. */
#ifndef UP_TASKS_CLASSES_H
#define UP_TASKS_CLASSES_H

#include "tasks/source.h"

/* Fill classes and their texts as tokens: from the settings' list, from the format's, or from the rows. */
up_status up_classes_open(up_source *source);
/* The texts of all classes as tokens, in a template: ids and starts [class_count + 1] are malloc'ed. */
up_status up_classes_tokenize(const up_source *source, const char *form, int32_t **ids, int64_t **starts);
void up_classes_close(up_source *source);

/* Index of a class by its name, or -1. */
int up_classes_find(const up_source *source, const char *name);
/* Fail because a row names a class that there is not. */
up_status up_classes_unknown(const up_source *source, size_t row, const char *name);

#endif
