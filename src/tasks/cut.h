/* cut.h - what a task's settings say of pixels: which frames of a video, which part of a picture, what is
 * done to it, which pictures of a batch are mixed. Data/augment.h and data/picture.h do it. */
#ifndef UP_TASKS_CUT_H
#define UP_TASKS_CUT_H

#include "data/picture.h"
#include "tasks/source.h"
#include "uniperceiver/video.h"

/* Ways to look at a row in evaluation, whose features are averaged. 1: once, in the middle. */
static inline int up_views(const up_task_settings *settings) {
    return (int)(settings->views * settings->clips);
}

/* Frames of a clip. */
static inline int up_clip_frames(const up_source *source) {
    int64_t frames = source->settings->frames;
    return frames ? (int)frames : source->world->config->frames;
}

/* Both draw from the sample's stream: the clip first. */
up_video_clip up_choose_clip(const up_source *source, const up_build_options *options, up_rng *rng);
up_cut up_choose_cut(const up_source *source, const up_build_options *options, up_rng *rng);

/* Mix the pictures of a batch, each with the one at the same place from its end, and give each two labels
 * with their shares in work->loss; a picture that is mixed with one of no class is left out. */
up_status up_mix_work(const up_source *source, up_rng *rng, up_work *work);

#endif
