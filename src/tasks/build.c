/* build.c - rows of a list -> a packed batch of inputs, what is true of them, and those targets that belong
 * to this batch alone. Formats: paper figures 3 and 5. Every random choice is a function of the seed, the
 * source and the number of the sample. */
#include "data/corrupt.h"
#include "tasks/classes.h"
#include "tasks/cut.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a draw is for. */
enum {
    PURPOSE_CUT = 1,
    PURPOSE_MASK,
    PURPOSE_INPUT_KEY,
    PURPOSE_TARGET_KEY,
    PURPOSE_TARGETS,
    PURPOSE_MIX,
    PURPOSE_TEXT,
    PURPOSE_TARGET_TEXT,
    PURPOSE_ANSWER,
    PURPOSE_NAMES,
    PURPOSE_REPLACEMENT
};

struct up_builder {
    const up_source *source;
    const up_build_options *options;
    up_work *work;
    uint64_t sample;          /* number of the sample at hand */
    int32_t *ids, *corrupted; /* [text_limit] */
    uint8_t *read;
    uint8_t *patches; /* [frames, cells, 3 patch^2] */
    up_sample values; /* of the sample at hand */
};

static up_status builder_begin(up_builder *b) {
    const up_config *c = b->source->world->config;
    size_t limit = (size_t)b->source->settings->text_limit;
    size_t frames = b->source->task->video ? (size_t)up_clip_frames(b->source) : 1;
    b->ids = malloc(limit * sizeof *b->ids);
    b->corrupted = malloc(limit * sizeof *b->corrupted);
    b->read = malloc(limit);
    b->patches = malloc(frames * up_picture_bytes(c));
    if (!b->ids || !b->corrupted || !b->read || !b->patches)
        return up_fail(UP_ERR_MEMORY, b->source->settings->name, "no memory for a sample");
    return UP_OK;
}

static void builder_end(up_builder *b) {
    free(b->ids);
    free(b->corrupted);
    free(b->read);
    free(b->patches);
    up_sample_free(&b->values);
}

/* Number of the i-th sample of the batch. */
static uint64_t sample_of(const up_builder *b, const size_t *rows, int i) {
    return b->options->training ? b->options->first + (uint64_t)i : rows[i];
}

static up_rng draw(const up_builder *b, uint64_t purpose) {
    return up_rng_make(b->options->seed, b->source->number, b->sample, purpose);
}

/* Who a sequence is: not the seed's business, which drop path takes beside it. */
static uint64_t key_of(const up_builder *b, uint64_t purpose) {
    up_rng rng = up_rng_make(0, b->source->number, b->sample, purpose);
    uint64_t high = up_rng_u32(&rng);
    return high << 32 | up_rng_u32(&rng);
}

up_status up_work_reserve(void *array, size_t size, int *capacity, int wanted) {
    void **memory = array;
    if (wanted <= *capacity) return UP_OK;
    int room = *capacity ? *capacity : 256;
    while (room < wanted) room *= 2;
    void *grown = realloc(*memory, (size_t)room * size);
    if (!grown) return up_fail(UP_ERR_MEMORY, "labels", "%d wanted", room);
    *memory = grown;
    *capacity = room;
    return UP_OK;
}

static up_status put_label(up_work *w, int place, int32_t label) {
    UP_TRY(up_work_reserve(&w->labels, sizeof *w->labels, &w->label_capacity, place + 1));
    w->labels[place] = label;
    return UP_OK;
}

static up_status tokenize(up_builder *b, const char *text, int *count) {
    size_t n = 0;
    up_status status = up_tokenize_closed(b->source->world->tokenizer, text, strlen(text),
                                          (size_t)b->source->settings->text_limit, b->ids, &n);
    *count = (int)n;
    return status;
}

/* ---- pixels ---- */

/* The patches of the sample's picture or clip into b->patches. */
static up_status read_pixels(up_builder *b, size_t row, const up_pixels_wanted *wanted) {
    const up_world *w = b->source->world;
    up_media media = {0};
    UP_TRY(up_source_media(b->source, &b->values, row, &media));
    up_status status = up_decoders_read(w->decoders, w->config, &media, &w->limits, wanted, b->patches);
    up_media_free(&media);
    return status;
}

static up_status put_image(up_builder *b, size_t row) {
    up_rng rng = draw(b, PURPOSE_CUT);
    up_pixels_wanted wanted = {.cut = up_choose_cut(b->source, b->options, &rng)};
    UP_TRY(read_pixels(b, row, &wanted));
    return up_batch_image(&b->work->batch, b->patches, up_config_cells(b->source->world->config));
}

static up_status put_video(up_builder *b, size_t row) {
    up_rng rng = draw(b, PURPOSE_CUT);
    up_pixels_wanted wanted = {.clip = up_choose_clip(b->source, b->options, &rng)};
    wanted.cut = up_choose_cut(b->source, b->options, &rng);
    UP_TRY(read_pixels(b, row, &wanted));
    return up_batch_video(&b->work->batch, b->patches, wanted.clip.frames,
                          up_config_cells(b->source->world->config), 0);
}

/* ---- texts ---- */

/* Label of a language-modelling read-out: the id's place in the vocabulary; -1 (left out) for ids outside it.
 */
static up_status put_word_label(up_builder *b, int place, int32_t id) {
    return put_label(b->work, place, b->source->world->vocabulary_index[id]);
}

/* One of the values of a name: training draws among several, everything else takes the first. */
static up_status choose(up_builder *b, size_t row, const char *name, uint64_t purpose, const char **text) {
    size_t count = up_sample_count(&b->values, name), k = 0;
    if (b->options->training && count > 1) {
        up_rng rng = draw(b, purpose);
        k = up_rng_below(&rng, (uint32_t)count);
    }
    if (!count) return up_source_lacks(b->source, row, &b->values, name);
    *text = up_value_text(&b->values, up_sample_value(&b->values, name, k));
    return UP_OK;
}

/* A line of a document, filled from those that follow. No token is shorter than a byte, so that after as many
 * bytes as tokens it may be full, and it is looked at again after each doubling. */
static up_status tokenize_document(up_builder *b, size_t row, int *count) {
    const up_source *s = b->source;
    size_t limit = (size_t)s->settings->text_limit, next = row, bytes = 0, look = limit;
    char *text = NULL;
    up_sample line = {0};
    up_status status = UP_OK;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a text");
    for (int more = 1; more;) {
        UP_GO(up_dataset_sample(&s->data, next, &line));
        fprintf(f, "%s%s", next > row ? " " : "", up_value_text(&line, &line.values[0]));
        if (fflush(f)) UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a text"));
        more = up_dataset_goes_on(&s->data, next++);
        if (more && bytes < look) continue;
        look = 2 * bytes;
        UP_GO(tokenize(b, text, count));
        if ((size_t)*count == limit) break;
    }
done:
    fclose(f);
    free(text);
    up_sample_free(&line);
    return status;
}

static up_status tokenize_cell(up_builder *b, size_t row, int *count) {
    const char *text;
    if (up_dataset_is_document(&b->source->data)) return tokenize_document(b, row, count);
    UP_TRY(choose(b, row, b->source->settings->text, PURPOSE_TEXT, &text));
    return tokenize(b, text, count);
}

/* The second of a pair of sentences (appendix D, natural language understanding): each ends with the end
 * token, and positions go on. Of several texts and as many seconds, those go together that are drawn alike.
 */
static up_status put_second(up_builder *b, size_t row, int position) {
    const up_source *s = b->source;
    const char *text;
    char why[128];
    int count, room = s->world->config->text_positions - position;
    UP_TRY(choose(b, row, s->settings->text_pair, PURPOSE_TEXT, &text));
    UP_TRY(tokenize(b, text, &count));
    if (count <= room) return up_batch_text(&b->work->batch, b->ids, count, position, NULL);
    snprintf(why, sizeof why, "a pair of %d tokens; the model has %d text positions: lower text_limit",
             position + count, position + room);
    return up_dataset_fail(&s->data, row, UP_ERR_ARGUMENT, why);
}

static up_status put_whole(up_builder *b, size_t row) {
    int count;
    UP_TRY(tokenize_cell(b, row, &count));
    UP_TRY(up_batch_text(&b->work->batch, b->ids, count, 0, NULL));
    return b->source->settings->text_pair ? put_second(b, row, count) : UP_OK;
}

static up_status put_masked(up_builder *b, size_t row) {
    const up_world *w = b->source->world;
    up_batch *batch = &b->work->batch;
    up_masking masking = {b->source->settings->mask, w->vocabulary, w->vocabulary_count,
                          !b->options->training};
    up_rng rng = draw(b, PURPOSE_MASK);
    int count, place = batch->readouts;
    UP_TRY(tokenize_cell(b, row, &count));
    up_mask_words(w->tokenizer, &masking, &rng, b->ids, count, b->corrupted, b->read);
    for (int i = 0; i < count; i++)
        if (b->read[i]) UP_TRY(put_word_label(b, place++, b->ids[i]));
    return up_batch_text(batch, b->corrupted, count, 0, b->read);
}

static up_status put_slots(up_builder *b, size_t row) {
    up_batch *batch = &b->work->batch;
    int count;
    UP_TRY(tokenize_cell(b, row, &count));
    for (int i = 0; i < count; i++) UP_TRY(put_word_label(b, batch->readouts + i, b->ids[i]));
    return up_batch_words_and_slots(batch, b->ids, count);
}

/* The question, then the slot, at position 0 as in the released models. */
static up_status put_question(up_builder *b, size_t row) {
    const up_task_settings *s = b->source->settings;
    const char *question = s->question;
    char *text = NULL;
    int count;
    if (!question) UP_TRY(choose(b, row, s->question_column, PURPOSE_TEXT, &question));
    UP_TRY(up_task_question(question, &text));
    up_status status = tokenize(b, text, &count);
    free(text);
    UP_TRY(status);
    UP_TRY(up_batch_text(&b->work->batch, b->ids, count, 0, NULL));
    return up_batch_text(&b->work->batch, (int32_t[]){UP_ID_SPE}, 1, 0, (uint8_t[]){1});
}

const up_text_form up_text_whole = {.put = put_whole, .leading = 1};
const up_text_form up_text_masked = {.put = put_masked};
const up_text_form up_text_slots = {.put = put_slots, .written = 1};
const up_text_form up_text_question = {.put = put_question, .asked = 1};

/* ---- inputs ---- */

/* The class of a sample. Where it has several (answers of several people), training draws one, so that each
 * is drawn as often as it was given. */
static up_status put_class(up_builder *b, size_t row, int place) {
    const up_source *s = b->source;
    const char *text;
    int class;
    if (b->options->training && up_sample_count(&b->values, s->settings->target) > 1) {
        UP_TRY(choose(b, row, s->settings->target, PURPOSE_ANSWER, &text));
        class = up_classes_find(s, text);
    } else {
        UP_TRY(up_source_class(s, &b->values, row, &class));
    }
    return put_label(b->work, place, class);
}

/* [<SPE>, image, video, text]: the parts that the task's row names. */
static up_status put_input(up_builder *b, size_t row) {
    const up_task *t = b->source->task;
    up_batch *batch = &b->work->batch;
    int place = batch->readouts;
    UP_TRY(up_batch_open(batch, UP_SIDE_INPUT, up_task_leads(t)));
    if (t->image) UP_TRY(put_image(b, row));
    if (t->video) UP_TRY(put_video(b, row));
    if (t->text) UP_TRY(t->text->put(b, row));
    UP_TRY(up_batch_close_as(batch, key_of(b, PURPOSE_INPUT_KEY)));
    if (t->targets == UP_TARGETS_CLASSES) return put_class(b, row, place);
    return t->targets == UP_TARGETS_TEXTS ? put_label(b->work, place, place) : UP_OK;
}

/* ---- targets of this batch alone ---- */

static up_status put_target_text(up_builder *b, const char *cell, up_batch *targets) {
    char *text = NULL;
    int count;
    UP_TRY(up_task_target_text(b->source->settings->template_text, cell, &text));
    up_status status = tokenize(b, text, &count);
    free(text);
    if (status != UP_OK) return status;
    UP_TRY(up_batch_open(targets, UP_SIDE_TARGET, 1));
    UP_TRY(up_batch_text(targets, b->ids, count, 0, NULL));
    return up_batch_close_as(targets, key_of(b, PURPOSE_TARGET_KEY));
}

/* Equal texts, and texts of one picture, are no negatives of each other. */
static up_status group_texts(up_work *w) {
    UP_TRY(up_work_reserve(&w->groups, sizeof *w->groups, &w->group_capacity, w->targets.sequences));
    UP_TRY(up_group_targets(&w->targets, w->groups));
    UP_TRY(up_group_pictures(w->pictures, w->targets.sequences, w->groups));
    w->loss.group_x = w->loss.group_y = w->groups;
    return UP_OK;
}

/* Beside the batch's own words, `drawn` of the `others`, each set of so many equally likely: selection
 * sampling (Knuth, algorithm S). chosen [vocabulary]: 1 own, 2 drawn, 0 neither. */
static void draw_words(up_builder *b, int drawn, int others, int32_t *chosen) {
    b->sample = b->options->first;
    up_rng rng = draw(b, PURPOSE_TARGETS);
    for (int i = 0; drawn > 0; i++) {
        if (chosen[i]) continue;
        if (up_rng_below(&rng, (uint32_t)others) < (uint32_t)drawn) {
            chosen[i] = 2;
            drawn--;
        }
        others--;
    }
}

static up_status put_word(up_work *w, int32_t id, float bias) {
    int place = w->targets.sequences;
    UP_TRY(up_work_reserve(&w->bias, sizeof *w->bias, &w->bias_capacity, place + 1));
    w->bias[place] = bias;
    UP_TRY(up_batch_open(&w->targets, UP_SIDE_TARGET, 1));
    UP_TRY(up_batch_text(&w->targets, (int32_t[]){id, UP_TOKEN_END}, 2, 0, NULL));
    return up_batch_close_as(&w->targets, (uint64_t)id);
}

/* An approximation of the whole vocabulary: the batch's own words, which are in the set for certain, and
 * `sampled_targets` of the others, each of them with the same probability p. exp(z) / p of a drawn one stands
 * for those that were not drawn, so that the sum over the set is on average the sum over the vocabulary:
 * its logit becomes z - log p (Jean et al. 2015). */
static up_status put_sampled_words(up_builder *b) {
    const up_world *world = b->source->world;
    up_work *w = b->work;
    int count = world->vocabulary_count, own = 0;
    int32_t *chosen = calloc((size_t)(count ? count : 1), sizeof *chosen);
    if (!chosen) return up_fail(UP_ERR_MEMORY, b->source->settings->name, "%d words wanted", count);
    for (int i = 0; i < w->batch.readouts; i++) {
        if (w->labels[i] < 0) continue;
        own += !chosen[w->labels[i]];
        chosen[w->labels[i]] = 1;
    }
    int64_t wanted = b->source->settings->sampled_targets;
    int drawn = wanted < count - own ? (int)wanted : count - own;
    float correction = drawn ? (float)-log((double)drawn / (double)(count - own)) : 0;
    up_status status = UP_OK;
    draw_words(b, drawn, count - own, chosen);
    for (int i = 0; i < count; i++) {
        if (!chosen[i]) continue;
        UP_GO(put_word(w, world->vocabulary[i], chosen[i] == 2 ? correction : 0));
        chosen[i] = w->targets.sequences - 1; /* its place in the set from here on */
    }
    for (int i = 0; i < w->batch.readouts; i++)
        if (w->labels[i] >= 0) w->labels[i] = chosen[w->labels[i]];
    w->loss.bias = w->bias;
done:
    free(chosen);
    return status;
}

/* Classes with several names: one of them drawn for each batch. */
static up_status put_drawn_names(up_builder *b) {
    const up_source *s = b->source;
    up_batch *targets = &b->work->targets;
    b->sample = b->options->first;
    up_rng rng = draw(b, PURPOSE_NAMES);
    for (size_t i = 0; i < s->class_count; i++) {
        size_t first = s->name_starts[i], count = s->name_starts[i + 1] - first;
        size_t k = first + up_rng_below(&rng, (uint32_t)count);
        int64_t from = s->name_at[k];
        UP_TRY(up_batch_open(targets, UP_SIDE_TARGET, 1));
        UP_TRY(up_batch_text(targets, s->name_ids + from, (int)(s->name_at[k + 1] - from), 0, NULL));
        UP_TRY(up_batch_close_as(targets, i));
    }
    return UP_OK;
}

static up_status put_targets(up_builder *b) {
    const up_source *s = b->source;
    if (s->task->targets == UP_TARGETS_TEXTS) return group_texts(b->work);
    if (b->options->training && s->name_starts) return put_drawn_names(b);
    if (b->options->training && s->settings->sampled_targets) return put_sampled_words(b);
    return UP_OK;
}

/* Which pictures are mixed how is the batch's choice: by its first sample. */
static up_status mix_inputs(up_builder *b) {
    if (!b->options->training) return UP_OK;
    b->sample = b->options->first;
    up_rng rng = draw(b, PURPOSE_MIX);
    return up_mix_work(b->source, &rng, b->work);
}

/* ---- samples ---- */

int up_is_of_sample(up_status status) {
    return status == UP_ERR_FORMAT || status == UP_ERR_IO || status == UP_ERR_UNSUPPORTED;
}

static up_status put_sample(up_builder *b, size_t row) {
    const up_source *s = b->source;
    up_work *w = b->work;
    const char *text;
    int place = w->targets.sequences;
    UP_TRY(up_dataset_sample(&s->data, row, &b->values));
    UP_TRY(put_input(b, row));
    if (s->task->targets != UP_TARGETS_TEXTS) return UP_OK;
    UP_TRY(choose(b, row, s->settings->target, PURPOSE_TARGET_TEXT, &text));
    UP_TRY(put_target_text(b, text, &w->targets));
    UP_TRY(up_work_reserve(&w->pictures, sizeof *w->pictures, &w->picture_capacity, place + 1));
    w->pictures[place] = up_source_picture(s, &b->values);
    return UP_OK;
}

size_t up_source_replacement(const up_source *s, uint64_t seed, uint64_t sample, int attempt) {
    up_rng rng = up_rng_make(seed, s->number, sample, PURPOSE_REPLACEMENT);
    uint64_t value = 0;
    for (int i = 0; i < attempt; i++) value = (uint64_t)up_rng_u32(&rng) << 32 | up_rng_u32(&rng);
    return (size_t)(value % s->data.count);
}

static up_status note_bad(up_work *w, size_t row) {
    UP_TRY(up_work_reserve(&w->bad, sizeof *w->bad, &w->bad_capacity, w->bad_count + 1));
    up_bad_sample *bad = &w->bad[w->bad_count++];
    *bad = (up_bad_sample){.row = row};
    snprintf(bad->reason, sizeof bad->reason, "%s", up_last_error());
    return UP_OK;
}

static up_status give_up(const up_builder *b) {
    const up_work *w = b->work;
    return up_fail(UP_ERR_FORMAT, b->source->settings->name,
                   "%d samples drawn one after the other cannot be read, the last: %s", UP_ATTEMPTS,
                   w->bad[w->bad_count - 1].reason);
}

/* What a sample that cannot be read has put into the batches is taken back, and another row stands in for
 * it. The choices about it are those of the sample's number, so that the others keep theirs. */
static up_status put_readable(up_builder *b, size_t row) {
    up_work *w = b->work;
    int inputs = w->batch.sequences, targets = w->targets.sequences;
    for (int attempt = 1; attempt <= UP_ATTEMPTS; attempt++) {
        up_status status = put_sample(b, row);
        if (!b->options->training || !up_is_of_sample(status)) return status;
        UP_TRY(note_bad(w, row));
        UP_TRY(up_batch_keep(&w->batch, inputs));
        UP_TRY(up_batch_keep(&w->targets, targets));
        row = up_source_replacement(b->source, b->options->seed, b->sample, attempt);
    }
    return give_up(b);
}

up_status up_source_build(const up_source *s, const up_build_options *options, const size_t *rows, int count,
                          up_work *work) {
    up_builder b = {.source = s, .options = options, .work = work};
    up_status status = UP_OK;
    work->source = s;
    work->bad_count = 0;
    work->loss = (up_loss){.task = s->temperature,
                           .symmetric = s->task->both,
                           .head = s->head,
                           .smoothing = (float)s->settings->smoothing,
                           .weight = (float)s->settings->loss_weight};
    UP_GO(builder_begin(&b));
    UP_GO(up_batch_begin(&work->batch, s->world->config));
    UP_GO(up_batch_begin(&work->targets, s->world->config));
    for (int i = 0; i < count; i++) {
        b.sample = sample_of(&b, rows, i);
        UP_GO(put_readable(&b, rows[i]));
    }
    UP_GO(put_targets(&b));
    UP_GO(mix_inputs(&b));
    work->loss.labels = work->labels;
done:
    builder_end(&b);
    return status;
}

up_status up_source_texts(const up_source *s, size_t row, up_batch *targets) {
    const up_build_options options = {.seed = 0};
    up_builder b = {.source = s, .options = &options};
    const up_value *v;
    up_status status = UP_OK;
    UP_GO(builder_begin(&b));
    UP_GO(up_dataset_sample(&s->data, row, &b.values));
    if (!up_sample_count(&b.values, s->settings->target))
        UP_GO(up_source_lacks(s, row, &b.values, s->settings->target));
    for (size_t k = 0; (v = up_sample_value(&b.values, s->settings->target, k)); k++)
        UP_GO(put_target_text(&b, up_value_text(&b.values, v), targets));
done:
    builder_end(&b);
    return status;
}

void up_work_free(up_work *w) {
    up_batch_free(&w->batch);
    up_batch_free(&w->targets);
    free(w->labels);
    free(w->shares);
    free(w->groups);
    free(w->pictures);
    free(w->bias);
    free(w->bad);
    memset(w, 0, sizeof *w);
}
