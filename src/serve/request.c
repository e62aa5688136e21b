/* request.c - a request's JSON -> what is to be compared. Everything is checked here but what only the model
 * can know: whether files decode and texts fit. */
#include "serve/job.h"
#include "files/json.h"
#include "serve/base64.h"
#include "tasks/tasks.h"

#include <stdlib.h>
#include <string.h>

typedef struct field_list {
    const char *names[8];
} field_list;
static const field_list fields_of[] = {
    [UP_JOB_ENCODE] = {{"tuned", "inputs", "side", NULL}},
    [UP_JOB_CLASSIFY] = {{"tuned", "input", "labels", "template", "top", NULL}},
    [UP_JOB_RETRIEVE] = {{"tuned", "query", "candidates", "top", NULL}},
    [UP_JOB_CAPTION] = {{"tuned", "input", "beam", "max_words", "min_words", "stream", NULL}},
    [UP_JOB_VQA] = {{"tuned", "input", "question", "answers", "top", NULL}},
    [UP_JOB_SEARCH] = {{"query", "top", NULL}},
    [UP_JOB_THUMBNAIL] = {{"row", NULL}},
};

/* Memory that lives as long as the job; a pointer to the next block stands before it. */
static up_status job_memory(up_job *job, size_t size, void *out) {
    void **block = calloc(1, 2 * sizeof *block + size);
    if (!block) return up_fail(UP_ERR_MEMORY, "request", "no memory for %zu bytes", size);
    *block = job->blocks;
    job->blocks = block;
    *(void **)out = block + 2;
    return UP_OK;
}

static up_status check_fields(const up_job *job) {
    const char *key;
    json_t *value;
    if (!json_is_object(job->body)) return up_fail(UP_ERR_FORMAT, "request", "wanted a JSON object");
    json_object_foreach(job->body, key, value) {
        const char *const *name = fields_of[job->kind].names;
        while (*name && strcmp(*name, key)) name++;
        if (!*name) return up_fail(UP_ERR_ARGUMENT, "request", "no field of the name \"%.40s\"", key);
    }
    return UP_OK;
}

/* --- single fields; one that is not there leaves *out as it is --- */

static up_status read_whole(const up_job *job, const char *name, int least, int most, int *out) {
    const json_t *value = json_object_get(job->body, name);
    if (!value) return UP_OK;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < least || number > most)
        return up_fail(UP_ERR_ARGUMENT, name, "wanted a whole number from %d to %d", least, most);
    *out = (int)number;
    return UP_OK;
}

static up_status read_text(const up_job *job, const char *name, const char **out) {
    const json_t *value = json_object_get(job->body, name);
    if (!value) return UP_OK;
    if (!json_is_string(value)) return up_fail(UP_ERR_ARGUMENT, name, "wanted a text");
    *out = json_string_value(value);
    return UP_OK;
}

static up_status read_side(up_job *job) {
    const char *side = "input";
    UP_TRY(read_text(job, "side", &side));
    int target = !strcmp(side, "target");
    if (!target && strcmp(side, "input"))
        return up_fail(UP_ERR_ARGUMENT, "side", "wanted \"input\" or \"target\"");
    job->side = target ? UP_SIDE_TARGET : UP_SIDE_INPUT;
    return UP_OK;
}

static up_status choose_session(up_job *job, const up_job_world *world) {
    const char *name = "";
    job->search = world->search;
    if (job->kind == UP_JOB_SEARCH || job->kind == UP_JOB_THUMBNAIL) {
        job->session = world->search->session;
        return UP_OK;
    }
    UP_TRY(read_text(job, "tuned", &name));
    for (int i = 0; i < world->count; i++)
        if (!strcmp(world->models[i].name, name)) job->session = world->models[i].session;
    return job->session ? UP_OK
                        : up_fail(UP_ERR_ARGUMENT, "tuned", "no task of the name \"%.40s\" is served", name);
}

/* --- sequences --- */

static up_status read_file(up_job *job, const json_t *value, up_part *out) {
    void *bytes = NULL;
    size_t length = json_string_length(value);
    UP_TRY(job_memory(job, length / 4 * 3 + 3, &bytes));
    UP_TRY(up_base64_decode(out->name, json_string_value(value), length, bytes, &out->size));
    if (!out->size) return up_fail(UP_ERR_FORMAT, out->name, "is empty");
    out->data = bytes;
    return UP_OK;
}

static up_status read_part(up_job *job, const char *field, const json_t *value, up_part *out) {
    static const struct {
        const char *name;
        up_part_kind kind;
    } kinds[] = {{"text", UP_PART_TEXT}, {"image", UP_PART_IMAGE}, {"video", UP_PART_VIDEO}};
    if (json_object_size(value) == 1)
        for (int i = 0; i < 3; i++) {
            const json_t *content = json_object_get(value, kinds[i].name);
            if (!json_is_string(content)) continue;
            *out = (up_part){.kind = kinds[i].kind, .name = kinds[i].name};
            if (kinds[i].kind != UP_PART_TEXT) return read_file(job, content, out);
            out->data = json_string_value(content);
            out->size = json_string_length(content);
            return UP_OK;
        }
    return up_fail(UP_ERR_ARGUMENT, field,
                   "wanted {\"text\": ...}, or {\"image\": ...} or {\"video\": ...} with a file in base64");
}

/* A part, or a list of parts; room for `more` behind them. */
static up_status read_sequence(up_job *job, const char *field, const json_t *value, int more, up_input *out) {
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    up_part *parts = NULL;
    if (!value) return up_fail(UP_ERR_ARGUMENT, field, "is missing");
    if (n < 1 || n > UP_JOB_PARTS)
        return up_fail(UP_ERR_ARGUMENT, field, "%zu parts; wanted 1 to %d", n, UP_JOB_PARTS);
    UP_TRY(job_memory(job, (n + (size_t)more) * sizeof *parts, &parts));
    for (size_t i = 0; i < n; i++)
        UP_TRY(read_part(job, field, json_is_array(value) ? json_array_get(value, i) : value, &parts[i]));
    *out = (up_input){parts, (int)n, 0};
    return UP_OK;
}

static up_status read_sequences(up_job *job, const char *field, int most, up_input **out, int *count) {
    const json_t *list = json_object_get(job->body, field);
    size_t n = json_array_size(list);
    if (n < 1 || n > (size_t)most)
        return up_fail(UP_ERR_ARGUMENT, field, "wanted a list of 1 to %d inputs", most);
    UP_TRY(job_memory(job, n * sizeof **out, out));
    for (size_t i = 0; i < n; i++) UP_TRY(read_sequence(job, field, json_array_get(list, i), 0, *out + i));
    *count = (int)n;
    return UP_OK;
}

static up_status read_input(up_job *job, const char *field, int more) {
    UP_TRY(job_memory(job, sizeof *job->inputs, &job->inputs));
    job->count = 1;
    return read_sequence(job, field, json_object_get(job->body, field), more, job->inputs);
}

/* --- labels and answers: texts as candidates --- */

/* malloc'ed text, moved into the job's memory. */
static up_status adopt(up_job *job, char *text, up_part *out) {
    char *copy = NULL;
    size_t size = strlen(text);
    up_status status = job_memory(job, size + 1, &copy);
    if (status == UP_OK) memcpy(copy, text, size);
    free(text);
    out->data = copy;
    out->size = size;
    return status;
}

static up_status set_candidates(up_job *job, const char *form) {
    size_t n = (size_t)job->candidate_count;
    up_part *parts = NULL;
    UP_TRY(job_memory(job, n * sizeof *parts, &parts));
    UP_TRY(job_memory(job, n * sizeof *job->candidates, &job->candidates));
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        parts[i] = (up_part){.kind = UP_PART_TEXT, .name = "label"};
        UP_TRY(up_task_target_text(form, job->names[i], &text));
        UP_TRY(adopt(job, text, &parts[i]));
        job->candidates[i] = (up_input){&parts[i], 1, 0};
    }
    return UP_OK;
}

static up_status read_names(up_job *job, const char *field) {
    const json_t *list = json_object_get(job->body, field);
    size_t n = json_array_size(list);
    if (n < 1 || n > UP_JOB_CANDIDATES)
        return up_fail(UP_ERR_ARGUMENT, field, "wanted a list of 1 to %d texts", UP_JOB_CANDIDATES);
    UP_TRY(job_memory(job, n * sizeof *job->names, &job->names));
    for (size_t i = 0; i < n; i++) {
        job->names[i] = json_string_value(json_array_get(list, i));
        if (!job->names[i]) return up_fail(UP_ERR_ARGUMENT, field, "number %zu is not a text", i);
    }
    job->candidate_count = (int)n;
    return UP_OK;
}

/* The model's own classes, where no labels are given: then its linear head takes part. */
static up_status read_labels(up_job *job) {
    int own;
    const char *const *classes = up_model_classes(up_session_model(job->session), &own);
    const char *form = NULL;
    UP_TRY(read_text(job, "template", &form));
    if (json_object_get(job->body, "labels")) {
        UP_TRY(read_names(job, "labels"));
        return set_candidates(job, form);
    }
    if (!classes)
        return up_fail(UP_ERR_ARGUMENT, "labels", "are missing: the model has no classes of its own");
    UP_TRY(job_memory(job, (size_t)own * sizeof *job->names, &job->names));
    memcpy(job->names, classes, (size_t)own * sizeof *job->names);
    job->candidate_count = own;
    job->head = 1;
    return set_candidates(job, form);
}

/* --- kinds of requests --- */

static up_status read_vqa(up_job *job) {
    const char *question = NULL;
    char *asked = NULL;
    UP_TRY(read_input(job, "input", 1));
    UP_TRY(read_text(job, "question", &question));
    if (!question) return up_fail(UP_ERR_ARGUMENT, "question", "is missing");
    UP_TRY(up_task_question(question, &asked));
    up_part *last = (up_part *)job->inputs->parts + job->inputs->count;
    *last = (up_part){.kind = UP_PART_TEXT, .name = "question"};
    UP_TRY(adopt(job, asked, last));
    job->inputs->count++;
    job->inputs->slot = 1;
    UP_TRY(read_names(job, "answers"));
    return set_candidates(job, NULL);
}

static up_status read_caption(up_job *job) {
    const json_t *stream = json_object_get(job->body, "stream");
    if (stream && !json_is_boolean(stream)) return up_fail(UP_ERR_ARGUMENT, "stream", "wanted true or false");
    job->stream = json_is_true(stream);
    UP_TRY(read_whole(job, "beam", 1, UP_JOB_BEAM, &job->caption.beam));
    UP_TRY(read_whole(job, "max_words", 1, UP_JOB_WORDS, &job->caption.max_words));
    UP_TRY(read_whole(job, "min_words", 0, UP_JOB_WORDS, &job->caption.min_words));
    return read_input(job, "input", 0);
}

static up_status read_search(up_job *job) {
    job->top = 10;
    UP_TRY(read_whole(job, "top", 1, UP_JOB_RESULTS, &job->top));
    return read_input(job, "query", 0);
}

/* A row of the index, never a name: no file but those that the index names is opened. */
static up_status read_thumbnail(up_job *job) {
    int64_t count = up_index_about_of(job->search->index).count;
    int most = count > INT32_MAX ? INT32_MAX : (int)count - 1;
    job->row = -1;
    UP_TRY(read_whole(job, "row", 0, most, &job->row));
    return job->row < 0 ? up_fail(UP_ERR_ARGUMENT, "row", "is missing") : UP_OK;
}

static up_status read_kind(up_job *job) {
    if (job->kind == UP_JOB_SEARCH) return read_search(job);
    if (job->kind == UP_JOB_THUMBNAIL) return read_thumbnail(job);
    UP_TRY(read_whole(job, "top", 1, UP_JOB_CANDIDATES, &job->top));
    switch (job->kind) {
    case UP_JOB_ENCODE:
        UP_TRY(read_side(job));
        return read_sequences(job, "inputs", UP_JOB_INPUTS, &job->inputs, &job->count);
    case UP_JOB_CLASSIFY:
        UP_TRY(read_labels(job));
        return read_input(job, "input", 0);
    case UP_JOB_RETRIEVE:
        UP_TRY(read_sequences(job, "candidates", UP_JOB_CANDIDATES, &job->candidates, &job->candidate_count));
        return read_input(job, "query", 0);
    case UP_JOB_CAPTION:
        return read_caption(job);
    case UP_JOB_VQA:
    default:
        return read_vqa(job);
    }
}

up_status up_job_read(up_job_kind kind, const up_job_world *world, const char *body, size_t size,
                      up_job **out) {
    up_status status = UP_OK;
    up_job *job = calloc(1, sizeof *job);
    *out = NULL;
    if (!job) return up_fail(UP_ERR_MEMORY, "request", "no memory");
    pthread_mutex_init(&job->lock, NULL);
    job->kind = kind;
    job->holders = 1;
    UP_GO(up_json_read("request", body, size, JSON_REJECT_DUPLICATES, &job->body));
    UP_GO(check_fields(job));
    UP_GO(choose_session(job, world));
    UP_GO(read_kind(job));
    *out = job;
    job = NULL;
done:
    up_job_leave(job);
    return status;
}
