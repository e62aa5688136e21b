/* answer.c - requests of a batch that go together are encoded together. Where that fails, each is tried
 * alone, so that a broken picture fails its own request and no other. */
#include "serve/answer.h"
#include "data/image_write.h"
#include "data/pixels.h"
#include "files/json.h"
#include "infer/session.h"
#include "uniperceiver/video.h"

#include <stdlib.h>
#include <string.h>

/* --- candidates: lists of texts are encoded once and kept --- */

static int all_texts(const up_job *job) {
    for (int i = 0; i < job->candidate_count; i++)
        for (int k = 0; k < job->candidates[i].count; k++)
            if (job->candidates[i].parts[k].kind != UP_PART_TEXT) return 0;
    return 1;
}

static void add(char **at, const void *data, size_t size) {
    memcpy(*at, data, size);
    *at += size;
}

/* Session, head, and each part with its length before it: different lists have different keys. */
static up_status make_key(const up_job *job, char **key, size_t *size) {
    *size = sizeof job->session + sizeof job->head;
    for (int i = 0; i < job->candidate_count; i++) {
        *size += sizeof(int);
        for (int k = 0; k < job->candidates[i].count; k++)
            *size += sizeof(size_t) + job->candidates[i].parts[k].size;
    }
    char *at = *key = malloc(*size);
    if (!at) return up_fail(UP_ERR_MEMORY, "candidates", "no memory for %zu bytes", *size);
    add(&at, &job->session, sizeof job->session);
    add(&at, &job->head, sizeof job->head);
    for (int i = 0; i < job->candidate_count; i++) {
        add(&at, &job->candidates[i].count, sizeof(int));
        for (int k = 0; k < job->candidates[i].count; k++) {
            const up_part *part = &job->candidates[i].parts[k];
            add(&at, &part->size, sizeof part->size);
            add(&at, part->data, part->size);
        }
    }
    return UP_OK;
}

static void forget(struct up_answer_list *list) {
    up_candidates_free(list->candidates);
    free(list->key);
    *list = (struct up_answer_list){0};
}

/* The list with this key, or the one to give up for it: unused, or used least recently. */
static struct up_answer_list *place_of(up_answers *a, const char *key, size_t size) {
    struct up_answer_list *oldest = &a->lists[0];
    for (int i = 0; i < UP_ANSWER_LISTS; i++) {
        struct up_answer_list *list = &a->lists[i];
        if (list->key && list->size == size && !memcmp(list->key, key, size)) return list;
        if (list->used < oldest->used) oldest = list;
    }
    return oldest;
}

static up_status make_candidates(const up_job *job, up_candidates **out) {
    UP_TRY(up_candidates_create(job->session, job->candidates, job->candidate_count, out));
    up_status status = up_candidates_use_head(*out, job->head);
    if (status == UP_OK) return UP_OK;
    up_candidates_free(*out);
    *out = NULL;
    return status;
}

static up_status kept_candidates(up_answers *a, const up_job *job, up_candidates **out) {
    char *key = NULL;
    size_t size;
    UP_TRY(make_key(job, &key, &size));
    struct up_answer_list *list = place_of(a, key, size);
    int known = list->key && list->size == size && !memcmp(list->key, key, size);
    if (!known) {
        up_candidates *made = NULL;
        up_status status = make_candidates(job, &made);
        if (status != UP_OK) {
            free(key);
            return status;
        }
        forget(list);
        *list = (struct up_answer_list){.key = key, .size = size, .candidates = made};
        key = NULL;
    }
    free(key);
    list->used = a->batches;
    *out = list->candidates;
    return UP_OK;
}

/* --- classify, retrieve, vqa --- */

static json_t *tell_one(const up_job *job, int place, double p) {
    if (job->kind == UP_JOB_RETRIEVE) return json_pack("{s:i,s:f}", "index", place, "probability", p);
    return json_pack("{s:s,s:f}", job->kind == UP_JOB_VQA ? "answer" : "label", job->names[place],
                     "probability", p);
}

/* Best first. */
static void tell_ranking(up_job *job, const float *probabilities) {
    static const char *const names[] = {
        [UP_JOB_CLASSIFY] = "labels", [UP_JOB_RETRIEVE] = "candidates", [UP_JOB_VQA] = "answers"};
    int n = job->candidate_count, top = job->top && job->top < n ? job->top : n;
    int *order = malloc((size_t)n * sizeof *order);
    json_t *told = json_array();
    int ordered = order && up_order_by_probability(probabilities, n, order) == UP_OK;
    for (int i = 0; ordered && i < top; i++)
        json_array_append_new(told, tell_one(job, order[i], (double)probabilities[order[i]]));
    json_t *answer =
        ordered && (int)json_array_size(told) == top ? json_pack("{s:O}", names[job->kind], told) : NULL;
    up_job_finish(job, 200, answer);
    json_decref(answer);
    json_decref(told);
    free(order);
}

/* The candidates of each job; those that are not kept are in made [n], to be freed. */
static up_status gather(up_answers *a, up_job **jobs, int n, up_request *requests, up_candidates **made) {
    for (int i = 0; i < n; i++) {
        up_job *job = jobs[i];
        size_t room = (size_t)job->candidate_count * sizeof(float);
        requests[i].input = *job->inputs;
        requests[i].probabilities = malloc(room);
        if (!requests[i].probabilities) return up_fail(UP_ERR_MEMORY, "candidates", "%zu bytes wanted", room);
        if (all_texts(job)) {
            UP_TRY(kept_candidates(a, job, &requests[i].candidates));
        } else {
            UP_TRY(make_candidates(job, &made[i]));
            requests[i].candidates = made[i];
        }
    }
    return UP_OK;
}

/* No more jobs at once than lists are kept, so that none is given up before it is compared. */
static up_status compare(up_answers *a, up_job **jobs, int n) {
    up_request requests[UP_ANSWER_LISTS] = {0};
    up_candidates *made[UP_ANSWER_LISTS] = {0};
    up_status status = UP_OK;
    UP_GO(gather(a, jobs, n, requests, made));
    UP_GO(up_compare_requests(requests, n));
    for (int i = 0; i < n; i++) tell_ranking(jobs[i], requests[i].probabilities);
done:
    for (int i = 0; i < n; i++) {
        up_candidates_free(made[i]);
        free(requests[i].probabilities);
    }
    return status;
}

/* --- encode --- */

static void tell_features(up_job *job, const float *features) {
    int width = up_session_width(job->session);
    json_t *rows = json_array();
    for (int i = 0; i < job->count; i++) {
        json_t *row = json_array();
        for (int k = 0; k < width; k++)
            json_array_append_new(row, json_real((double)features[(size_t)i * (size_t)width + (size_t)k]));
        json_array_append_new(rows, row);
    }
    json_t *answer = json_pack("{s:i,s:o}", "width", width, "features", rows);
    up_job_finish(job, 200, answer);
    json_decref(answer);
}

static up_status encode(up_answers *a, up_job **jobs, int n) {
    up_status status = UP_OK;
    size_t total = 0, width = (size_t)up_session_width(jobs[0]->session);
    (void)a;
    for (int i = 0; i < n; i++) total += (size_t)jobs[i]->count;
    up_input *inputs = malloc(total * sizeof *inputs);
    float *features = malloc(total * width * sizeof *features);
    if (!inputs || !features) UP_GO(up_fail(UP_ERR_MEMORY, "inputs", "no memory for %zu", total));
    total = 0;
    for (int i = 0; i < n; i++) {
        memcpy(inputs + total, jobs[i]->inputs, (size_t)jobs[i]->count * sizeof *inputs);
        total += (size_t)jobs[i]->count;
    }
    UP_GO(up_encode(jobs[0]->session, inputs, (int)total, jobs[0]->side, features));
    total = 0;
    for (int i = 0; i < n; i++) {
        tell_features(jobs[i], features + total * width);
        total += (size_t)jobs[i]->count;
    }
done:
    free(inputs);
    free(features);
    return status;
}

/* --- search --- */

/* What a row is of: a text, or a picture or clip that may have a thumbnail. */
static json_t *tell_hit(const up_index *index, const up_index_hit *hit) {
    up_index_entry entry = up_index_entry_at(index, hit->row);
    json_t *name = up_json_bytes(entry.name);
    return json_pack("{s:I,s:o,s:f,s:b}", "row", (json_int_t)hit->row, "name", name, "score", hit->score,
                     "file", entry.size || entry.time);
}

static up_status search_one(up_job *job, const float *query) {
    const up_served_index *s = job->search;
    up_index_hit hits[UP_JOB_RESULTS];
    int found;
    UP_TRY(up_index_search(s->index, query, job->top, s->threads, hits, &found));
    json_t *results = json_array();
    for (int i = 0; i < found; i++) json_array_append_new(results, tell_hit(s->index, &hits[i]));
    int whole = (int)json_array_size(results) == found;
    json_t *answer = whole ? json_pack("{s:O}", "results", results) : NULL;
    up_job_finish(job, 200, answer);
    json_decref(answer);
    json_decref(results);
    return UP_OK;
}

static up_status search(up_answers *a, up_job **jobs, int n) {
    up_status status = UP_OK;
    up_input inputs[UP_ANSWER_LISTS] = {0};
    size_t width = (size_t)up_session_width(jobs[0]->session);
    float *queries = malloc((size_t)n * width * sizeof *queries);
    (void)a;
    if (!queries) return up_fail(UP_ERR_MEMORY, "query", "no memory for %d", n);
    for (int i = 0; i < n; i++) inputs[i] = *jobs[i]->inputs;
    UP_GO(up_encode(jobs[0]->session, inputs, n, UP_SIDE_INPUT, queries));
    for (int i = 0; i < n; i++) UP_GO(search_one(jobs[i], queries + (size_t)i * width));
done:
    free(queries);
    return status;
}

/* --- thumbnails --- */

/* The picture, or a clip's first frame; how large it may be is the server's limit. */
static up_status read_thumbnail(const char *path, const up_image_limits *limits, up_image *out) {
    const up_decoding how = {.limits = limits, .short_side = UP_JOB_THUMBNAIL_SIDE};
    const up_video_clip first = {.frames = 1, .stride = 1, .start = 0, .fraction = -1};
    up_whole whole;
    if (up_image_read_as(path, &how, out, &whole) == UP_OK) return UP_OK;
    return up_video_read(path, &first, limits, out);
}

static up_status thumbnail(const up_job *job, unsigned char **bytes, size_t *size) {
    up_index_entry entry = up_index_entry_at(job->search->index, job->row);
    const up_image_limits limits = {job->search->pixels_most};
    up_image image = {0};
    if (!entry.size && !entry.time) return up_fail(UP_ERR_ARGUMENT, "row", "is a text, not a file");
    up_status status = read_thumbnail(entry.name, &limits, &image);
    if (status == UP_OK) status = up_image_write_jpeg(&image, UP_JOB_THUMBNAIL_SIDE, bytes, size);
    up_image_free(&image);
    return status;
}

/* One job at a time: goes_with joins none. A file that is gone is no fault of the server. */
static up_status show(up_answers *a, up_job **jobs, int n) {
    unsigned char *bytes = NULL;
    size_t size = 0;
    (void)a;
    (void)n;
    up_status status = thumbnail(jobs[0], &bytes, &size);
    if (status == UP_OK) up_job_finish_bytes(jobs[0], "image/jpeg", bytes, size);
    free(bytes);
    if (status != UP_ERR_IO) return status;
    up_job_fail(jobs[0], 404, "row: its file cannot be read any more");
    return UP_OK;
}

/* --- captions --- */

static void said(void *listener, int input, const int32_t *ids, int count) {
    up_job *job = ((up_job **)listener)[input];
    char *text = NULL;
    if (!job->stream) return;
    if (up_detokenize(up_session_tokenizer(job->session), ids, (size_t)count, &text) != UP_OK) return;
    json_t *data = json_pack("{s:s,s:i}", "text", text, "words", count);
    if (data) up_job_tell(job, "words", data);
    json_decref(data);
    free(text);
}

static up_status caption(up_answers *a, up_job **jobs, int n) {
    up_status status = UP_OK;
    up_input inputs[UP_ANSWER_LISTS] = {0};
    up_caption captions[UP_ANSWER_LISTS];
    up_caption_options options = jobs[0]->caption;
    (void)a;
    options.size = sizeof options;
    options.said = said;
    options.listener = jobs;
    for (int i = 0; i < n; i++) inputs[i] = *jobs[i]->inputs;
    UP_TRY(up_caption_inputs(jobs[0]->session, inputs, n, &options, captions));
    for (int i = 0; i < n; i++) {
        json_t *answer = json_pack("{s:s,s:i,s:f}", "text", captions[i].text, "words", captions[i].words,
                                   "log_probability", captions[i].log_probability);
        up_job_finish(jobs[i], 200, answer);
        json_decref(answer);
        up_caption_free(&captions[i]);
    }
    return status;
}

/* --- batches --- */

typedef up_status (*answer_function)(up_answers *a, up_job **jobs, int n);

static answer_function function_of(const up_job *job) {
    static const answer_function functions[] = {
        [UP_JOB_ENCODE] = encode,   [UP_JOB_CLASSIFY] = compare, [UP_JOB_RETRIEVE] = compare,
        [UP_JOB_CAPTION] = caption, [UP_JOB_VQA] = compare,      [UP_JOB_SEARCH] = search,
        [UP_JOB_THUMBNAIL] = show};
    return functions[job->kind];
}

static int goes_with(const up_job *x, const up_job *y) {
    const up_caption_options *a = &x->caption, *b = &y->caption;
    if (function_of(x) != function_of(y)) return 0;
    if (function_of(x) == show) return 0;
    if (function_of(x) == compare) return 1;
    if (x->session != y->session || x->side != y->side) return 0;
    return a->beam == b->beam && a->max_words == b->max_words && a->min_words == b->min_words;
}

static void answer_group(up_answers *a, up_job **jobs, int n) {
    up_status status = function_of(jobs[0])(a, jobs, n);
    if (status == UP_OK) return;
    if (n == 1) {
        up_job_fail(jobs[0], up_job_http_status(status), up_last_error());
        return;
    }
    for (int i = 0; i < n; i++)
        if (!jobs[i]->done) answer_group(a, &jobs[i], 1);
}

void up_answer_batch(up_answers *a, up_job **jobs, int n) {
    up_job *group[UP_ANSWER_LISTS];
    a->batches++;
    for (int i = 0; i < n; i++) {
        int count = 0;
        if (!jobs[i]) continue;
        group[count++] = jobs[i];
        for (int k = i + 1; k < n; k++) {
            if (!jobs[k] || count == UP_ANSWER_LISTS || !goes_with(jobs[i], jobs[k])) continue;
            group[count++] = jobs[k];
            jobs[k] = NULL;
        }
        answer_group(a, group, count);
    }
}

void up_answers_free(up_answers *a) {
    for (int i = 0; i < UP_ANSWER_LISTS; i++) forget(&a->lists[i]);
}
