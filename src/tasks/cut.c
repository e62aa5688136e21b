/* cut.c - which clip, which part, which changes: settings and a stream of random numbers -> choices. Paper
 * appendix E. */
#include "tasks/cut.h"

#include <stdlib.h>

/* Clips of an evaluation lie evenly: the i-th of n begins at (i + 1/2) / n of the possible starts, a single
 * one is centred. */
up_video_clip up_choose_clip(const up_source *s, const up_build_options *options, up_rng *rng) {
    const up_task_settings *t = s->settings;
    up_video_clip clip = {.frames = up_clip_frames(s), .start = -1, .fraction = -1};
    clip.stride = t->stride ? (int)t->stride : s->world->config->video_stride;
    if (options->training)
        clip.fraction = up_rng_uniform(rng);
    else if (t->clips > 1)
        clip.fraction = ((double)(options->view / t->views) + 0.5) / (double)t->clips;
    return clip;
}

static int is_augmented(const up_augment_settings *a) {
    return a->crop || a->operations > 0 || a->erase > 0;
}

static up_cut random_cut(const up_task_settings *t, up_rng *rng) {
    const up_augment_settings *a = &t->augment;
    up_cut cut = {.resize = (int)t->resize, .scaled = t->scaled_decoding};
    cut.x = up_rng_uniform(rng);
    cut.y = up_rng_uniform(rng);
    cut.mirror = up_rng_u32(rng) & 1 && t->flip;
    if (t->resize_most) cut.resize += (int)up_rng_below(rng, (uint32_t)(t->resize_most - t->resize + 1));
    cut.augmented = is_augmented(a);
    cut.how = (up_augmentation){.resized = a->crop,
                                .area = a->area,
                                .ratio = a->ratio,
                                .operations = (int)a->operations,
                                .magnitude = a->magnitude,
                                .deviation = a->deviation,
                                .erase = a->erase};
    cut.chance = *rng;
    return cut;
}

up_cut up_choose_cut(const up_source *s, const up_build_options *options, up_rng *rng) {
    const up_task_settings *t = s->settings;
    if (options->training) return random_cut(t, rng);
    up_cut cut = up_cut_middle;
    if (t->views < 2) return cut;
    cut.along = 1;
    cut.x = (double)(options->view % t->views) / (double)(t->views - 1);
    return cut;
}

/* ---- mixing ---- */

/* labels [n] -> [n, 2]: from the end, so that none is overwritten before it has moved. */
static void pair_labels(up_work *w, int n, double kept) {
    for (int i = n - 1; i >= 0; i--) {
        w->labels[2 * i] = w->labels[i];
        w->shares[2 * i] = (float)kept;
        w->shares[2 * i + 1] = (float)(1 - kept);
    }
    for (int i = 0; i < n; i++) w->labels[2 * i + 1] = w->labels[2 * (n - 1 - i)];
    for (int i = 0; i < n; i++)
        if (w->labels[2 * i + 1] < 0) w->labels[2 * i] = -1;
}

up_status up_mix_work(const up_source *s, up_rng *rng, up_work *w) {
    const up_config *c = s->world->config;
    const up_augment_settings *a = &s->settings->augment;
    const up_mixing how = {.mixup = a->mixup, .cutmix = a->cutmix, .choice = a->choice};
    int n = w->batch.readouts; /* one of each picture */
    if (how.mixup <= 0 && how.cutmix <= 0) return UP_OK;
    UP_TRY(up_work_reserve(&w->shares, sizeof *w->shares, &w->share_capacity, 2 * n));
    UP_TRY(up_work_reserve(&w->labels, sizeof *w->labels, &w->label_capacity, 2 * n));
    up_mix mix = up_draw_mix(&how, rng, c->image_size);
    up_mix_patches(&mix, w->batch.image.bytes, n, c->image_size, c->patch);
    pair_labels(w, n, mix.kept);
    w->loss.choices = 2;
    w->loss.shares = w->shares;
    return UP_OK;
}
