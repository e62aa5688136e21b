/* head.c - the linear head of a tuned task, as evaluations compare with it. */
#include "eval/head.h"
#include "infer/session.h"
#include "tasks/classes.h"

#include <stdlib.h>

void up_head_close(up_head *h) {
    free(h->row_of_class);
    free(h->bias);
    free(h->cosines);
    free(h->z);
    *h = (up_head){0};
}

/* The head's row of each class by its name; 0: the head knows not all of them. */
static int find_classes(const up_source *s, const char *const *names, up_head *h) {
    size_t found = 0;
    for (size_t c = 0; c < h->classes; c++) h->row_of_class[c] = -1;
    for (size_t row = 0; row < h->rows; row++) {
        int class = up_classes_find(s, names[row]);
        if (class < 0 || h->row_of_class[class] >= 0) continue;
        h->row_of_class[class] = (int)row;
        found++;
    }
    return found == h->classes;
}

up_status up_head_open(up_evaluation *e, const up_source *s, size_t inputs, up_head *h) {
    up_model *model = up_session_model(e->session);
    up_backend *b = up_model_backend(model);
    const up_params *p = up_model_params(model);
    int rows;
    float alpha;
    const char *const *names = up_model_classes(model, &rows);
    *h = (up_head){.classes = s->class_count, .rows = (size_t)rows};
    if (!names || s->task->targets != UP_TARGETS_CLASSES || s->settings->head == UP_HEAD_NONE) return UP_OK;
    h->row_of_class = malloc(h->classes * sizeof *h->row_of_class);
    h->bias = malloc(h->rows * sizeof *h->bias);
    h->cosines = malloc(inputs * h->classes * sizeof *h->cosines);
    h->z = malloc(inputs * h->rows * sizeof *h->z);
    if (!h->row_of_class || !h->bias || !h->cosines || !h->z)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "a head of %d classes wanted", rows);
    if (!find_classes(s, names, h)) {
        up_head_close(h);
        return UP_OK;
    }
    UP_TRY(up_task_scale(e->session, e->world.config->task_names[s->temperature], &h->scale));
    UP_TRY(b->ops->download(b, &alpha, up_model_weight(model, p->head_alpha)));
    h->scale *= (double)alpha;
    return b->ops->download(b, h->bias, up_model_weight(model, p->head_bias));
}

up_status up_head_read(up_evaluation *e, const up_source *s, const up_features *x, up_head *h) {
    up_model *model = up_session_model(e->session);
    UP_TRY(up_cosines_read(e->cosines, x->unit, up_target_set_features(s->set)->unit, h->cosines));
    return up_cosines_read(e->cosines, x->raw, up_model_weight(model, up_model_params(model)->head_weight),
                           h->z);
}
