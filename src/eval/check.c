/* check.c - threads take the samples of all datasets by number, each through the road that training takes:
 * its values, its picture or clip by a decoder process, its texts as tokens, its class. */
#include "eval/check.h"
#include "data/video_module.h"
#include "files/progress.h"
#include "infer/session.h"
#include "tasks/cut.h"
#include "train/settings.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TOLD = 10, LOOK_EVERY = 20000000 }; /* broken samples on the terminal; nanoseconds */

/* A task or evaluation. */
typedef struct entry {
    up_source source;
    size_t set;
} entry;

/* The entries that read the same samples. */
typedef struct set {
    const up_task_settings *settings; /* of the first of them */
    const up_source *source;          /* NULL: it cannot be opened */
    size_t first;                     /* its first sample among those of all sets */
    size_t read, broken, long_texts, unknown;
} set;

typedef struct finding {
    size_t set, row;
    size_t number; /* 0: the dataset itself */
    uint64_t line; /* 0: none */
    char *reason;
} finding;

typedef struct check {
    up_check_options options;
    up_settings settings;
    up_config config;
    up_world world;
    entry *entries;
    set *sets;
    size_t entry_count, set_count, total, next, done;
    int working;
    pthread_mutex_t lock; /* of what follows */
    finding *found;
    size_t found_count, found_room;
    up_status status; /* what ended it, if not a sample's own */
    char message[512];
} check;

static void add(size_t *count, size_t n) {
    __atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static int is_stopped(const check *c) {
    return (c->options.stop && *c->options.stop) || __atomic_load_n(&c->status, __ATOMIC_RELAXED) != UP_OK;
}

/* ---- what is found ---- */

static up_status keep(check *c, finding f) {
    if (c->found_count == c->found_room) {
        size_t room = c->found_room ? 2 * c->found_room : 64;
        finding *grown = realloc(c->found, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "broken samples", "%zu wanted", room);
        c->found = grown;
        c->found_room = room;
    }
    f.reason = strdup(up_last_error());
    if (!f.reason) return up_fail(UP_ERR_MEMORY, "broken samples", "no memory for a reason");
    c->found[c->found_count++] = f;
    add(&c->sets[f.set].broken, 1);
    return UP_OK;
}

static void end_with(check *c, up_status status) {
    if (c->status != UP_OK) return;
    snprintf(c->message, sizeof c->message, "%s", up_last_error());
    __atomic_store_n(&c->status, status, __ATOMIC_RELAXED);
}

/* A failure of sample `row`: its own is kept, another ends the work. */
static void note(check *c, size_t at, size_t row, up_status status) {
    finding f = {.set = at, .row = row};
    pthread_mutex_lock(&c->lock);
    if (up_is_of_sample(status)) {
        f.number = up_dataset_number(&c->sets[at].source->data, row, &f.line);
        status = keep(c, f);
    }
    if (status != UP_OK) end_with(c, status);
    pthread_mutex_unlock(&c->lock);
}

static int by_place(const void *a, const void *b) {
    const finding *x = a, *y = b;
    if (x->set != y->set) return x->set < y->set ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* ---- one sample ---- */

static up_status read_texts(check *c, const up_source *s, const up_sample *sample, size_t row,
                            const char *name) {
    const up_value *value;
    size_t limit = (size_t)s->settings->text_limit;
    int cut = up_dataset_is_document(&s->data); /* lines of documents are put together and cut to fit */
    if (!up_sample_count(sample, name)) return up_source_lacks(s, row, sample, name);
    for (size_t k = 0; (value = up_sample_value(sample, name, k)); k++) {
        const char *text = up_value_text(sample, value);
        int32_t *ids = NULL;
        size_t count;
        UP_TRY(up_tokenize(c->world.tokenizer, text, strlen(text), &ids, &count));
        free(ids);
        if (!cut && count + 1 > limit) add(&c->sets[c->entries[s->number].set].long_texts, 1);
    }
    return UP_OK;
}

static up_status read_all_texts(check *c, const up_source *s, const up_sample *sample, size_t row) {
    const up_task *t = s->task;
    const up_task_settings *w = s->settings;
    const char *asked = w->question ? NULL : w->question_column;
    const char *const names[] = {t->text ? t->text->asked ? asked : w->text : NULL, w->text_pair,
                                 t->targets == UP_TARGETS_TEXTS ? w->target : NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i]) UP_TRY(read_texts(c, s, sample, row, names[i]));
    return UP_OK;
}

static up_status read_pixels(check *c, const up_source *s, const up_sample *sample, size_t row) {
    const up_build_options middle = {0};
    up_rng rng = {0};
    up_pixels_wanted wanted = {.cut = up_choose_cut(s, &middle, &rng)};
    if (s->task->video) wanted.clip = up_choose_clip(s, &middle, &rng);
    up_media media = {0};
    UP_TRY(up_source_media(s, sample, row, &media));
    uint8_t *patches = malloc(up_pixels_bytes(&c->config, &wanted));
    up_status status =
        patches ? up_decoders_read(c->world.decoders, &c->config, &media, &c->world.limits, &wanted, patches)
                : up_fail(UP_ERR_MEMORY, media.name, "no memory for its patches");
    free(patches);
    up_media_free(&media);
    return status;
}

static int same(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

/* 1 where an entry before it has decoded the same picture or clip. */
static int is_decoded(const check *c, size_t at) {
    const up_source *s = &c->entries[at].source;
    const up_task_settings *w = s->settings;
    for (size_t i = 0; i < at; i++) {
        const up_source *b = &c->entries[i].source;
        const up_task_settings *v = b->settings;
        if (c->entries[i].set != c->entries[at].set || b->task->video != s->task->video) continue;
        if (!b->task->video && !b->task->image) continue;
        if (s->task->video ? same(v->video, w->video) : same(v->image, w->image)) return 1;
    }
    return 0;
}

static up_status read_sample(check *c, size_t at, size_t row, up_sample *sample) {
    UP_TRY(up_dataset_sample(&c->sets[at].source->data, row, sample));
    for (size_t i = 0; i < c->entry_count; i++) {
        const up_source *s = &c->entries[i].source;
        int class;
        if (c->entries[i].set != at) continue;
        if ((s->task->image || s->task->video) && !is_decoded(c, i)) UP_TRY(read_pixels(c, s, sample, row));
        UP_TRY(read_all_texts(c, s, sample, row));
        if (s->task->targets != UP_TARGETS_CLASSES) continue;
        up_status status = up_source_class(s, sample, row, &class);
        if (up_is_of_sample(status)) add(&c->sets[at].unknown, 1);
        UP_TRY(status);
    }
    return UP_OK;
}

/* ---- all of them ---- */

static void *work(void *argument) {
    check *c = argument;
    up_sample sample = {0};
    while (!is_stopped(c)) {
        size_t n = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED), at = c->set_count - 1;
        if (n >= c->total) break;
        while (c->sets[at].first > n || !c->sets[at].source) at--;
        size_t row = n - c->sets[at].first;
        up_status status = read_sample(c, at, row, &sample);
        if (status != UP_OK) note(c, at, row, status);
        add(&c->sets[at].read, 1);
        add(&c->done, 1);
    }
    up_sample_free(&sample);
    __atomic_fetch_sub(&c->working, 1, __ATOMIC_RELAXED);
    return NULL;
}

static up_status read_sets(check *c) {
    int started = 0, threads = c->options.threads;
    const struct timespec pause = {.tv_nsec = LOOK_EVERY};
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    if (!thread) return up_fail(UP_ERR_MEMORY, "check", "%d threads wanted", threads);
    c->working = threads;
    while (started < threads && !pthread_create(&thread[started], NULL, work, c)) started++;
    __atomic_fetch_sub(&c->working, threads - started, __ATOMIC_RELAXED);
    up_counter counter = up_counter_start("samples", (int64_t)c->total, c->options.quiet);
    while (__atomic_load_n(&c->working, __ATOMIC_RELAXED)) {
        nanosleep(&pause, NULL);
        up_counter_show(&counter, (int64_t)__atomic_load_n(&c->done, __ATOMIC_RELAXED));
    }
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
    free(thread);
    if (!started) return up_fail(UP_ERR_MEMORY, "check", "the system gave no thread");
    if (c->found_count) qsort(c->found, c->found_count, sizeof *c->found, by_place);
    return UP_OK;
}

/* ---- opening ---- */

static int reads_same(const up_task_settings *a, const up_task_settings *b) {
    return same(a->data, b->data) && same(a->format, b->format) && same(a->index, b->index) &&
           same(a->split, b->split) && same(a->images, b->images) && same(a->videos, b->videos) &&
           same(a->annotations, b->annotations) && same(a->columns, b->columns) &&
           same(a->leave_out, b->leave_out);
}

static up_status open_entry(check *c, up_task_settings *settings) {
    entry *e = &c->entries[c->entry_count];
    if (up_tasks_table[settings->kind].video) UP_TRY(up_video_require(settings->name, "video"));
    settings->fraction = 1; /* all samples, whichever are taken */
    up_status status = up_source_open(settings, &c->world, &e->source);
    e->source.number = c->entry_count;
    for (e->set = 0; status == UP_OK && e->set < c->set_count; e->set++)
        if (c->sets[e->set].source && reads_same(c->sets[e->set].settings, settings)) break;
    if (status != UP_OK) e->set = c->set_count;
    if (e->set == c->set_count) {
        c->sets[c->set_count++] = (set){.settings = settings, .first = c->total};
        if (status == UP_OK) c->sets[e->set].source = &e->source;
        if (status == UP_OK) c->total += e->source.data.count;
    }
    if (status == UP_OK) c->entry_count++;
    if (status == UP_OK || status == UP_ERR_MEMORY) return status;
    return keep(c, (finding){.set = e->set});
}

/* The model's own configuration where the run begins with one that can be read; the samples need no more. */
static up_status open_config(check *c) {
    char path[4096];
    up_session *session = NULL;
    const up_load_options options = {.backend = "ref"};
    if (c->settings.init_from && up_settings_init_path(&c->settings, path, sizeof path) == UP_OK &&
        up_model_load(path, &options, &session) == UP_OK) {
        c->config = *up_model_config(up_session_model(session));
        up_session_close(session);
        return UP_OK;
    }
    return up_settings_model(&c->settings, &c->config);
}

static up_status open_decoders(check *c) {
    const up_settings *s = &c->settings;
    if (s->isolate == UP_ISOLATE_OFF) return UP_OK;
    up_status status = up_decoders_open(c->options.threads, s->decode_seconds, &c->world.decoders);
    return s->isolate == UP_ISOLATE_AUTO && status == UP_ERR_UNSUPPORTED ? UP_OK : status;
}

static up_status open_check(check *c) {
    up_settings *s = &c->settings;
    size_t most = s->task_count + s->evaluation_count;
    if (!c->options.threads) c->options.threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (c->options.threads < 1) c->options.threads = 1;
    UP_TRY(open_config(c));
    c->world.config = &c->config;
    c->world.later = 1;
    c->world.limits.max_pixels = s->max_pixels;
    UP_TRY(up_tokenizer_create(NULL, &c->world.tokenizer));
    UP_TRY(open_decoders(c));
    c->entries = calloc(most + 1, sizeof *c->entries);
    c->sets = calloc(most + 1, sizeof *c->sets);
    if (!c->entries || !c->sets) return up_fail(UP_ERR_MEMORY, "tasks", "%zu wanted", most);
    for (size_t i = 0; i < s->task_count; i++) UP_TRY(open_entry(c, &s->tasks[i]));
    for (size_t i = 0; i < s->evaluation_count; i++) UP_TRY(open_entry(c, &s->evaluations[i]));
    return UP_OK;
}

static void close_check(check *c) {
    for (size_t i = 0; i < c->found_count; i++) free(c->found[i].reason);
    for (size_t i = 0; i < c->entry_count; i++) up_source_close(&c->entries[i].source);
    free(c->found);
    free(c->entries);
    free(c->sets);
    up_decoders_close(c->world.decoders);
    up_tokenizer_free(c->world.tokenizer);
    up_settings_free(&c->settings);
    pthread_mutex_destroy(&c->lock);
}

/* ---- the report ---- */

static size_t samples_of(const set *s) {
    return s->source ? s->source->data.count : 0;
}

static void print_set(const check *c, size_t at, const finding *f) {
    const set *s = &c->sets[at];
    printf("%s: %zu samples, %zu read, %zu broken, %zu texts over text_limit, %zu labels not in classes\n",
           s->settings->data, samples_of(s), s->read, s->broken, s->long_texts, s->unknown);
    for (size_t i = 0; i < s->broken && i < TOLD; i++) {
        printf("  ");
        if (f[i].number) printf("sample %zu: ", f[i].number);
        printf("%s\n", f[i].reason);
    }
    if (s->broken > TOLD) printf("  and %zu more: --out FILE lists all\n", s->broken - TOLD);
}

static void print_sets(const check *c) {
    const finding *f = c->found;
    for (size_t i = 0; i < c->set_count; f += c->sets[i++].broken) print_set(c, i, f);
}

static json_t *numbers_of(const set *s, size_t samples) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "samples", (json_int_t)samples, "read", (json_int_t)s->read,
                     "broken", (json_int_t)s->broken, "long_texts", (json_int_t)s->long_texts,
                     "unknown_labels", (json_int_t)s->unknown);
}

static json_t *named(json_t *object, const char *data) {
    char name[4096];
    up_printable(data, strlen(data), name, sizeof name);
    json_object_set_new(object, "data", json_string(name));
    return object;
}

static up_status print_json(const check *c) {
    set sum = {0};
    json_t *list = json_array();
    for (size_t i = 0; i < c->set_count; i++) {
        const set *s = &c->sets[i];
        sum.read += s->read;
        sum.broken += s->broken;
        sum.long_texts += s->long_texts;
        sum.unknown += s->unknown;
        json_array_append_new(list, named(numbers_of(s, samples_of(s)), s->settings->data));
    }
    json_t *all = numbers_of(&sum, c->total);
    json_object_set_new(all, "datasets", list);
    int failed = json_dumpf(all, stdout, JSON_COMPACT);
    json_decref(all);
    putchar('\n');
    return failed ? up_fail(UP_ERR_IO, "standard output", "cannot write the totals") : UP_OK;
}

static json_t *line_of(const check *c, const finding *f) {
    json_t *line = json_object();
    named(line, c->sets[f->set].settings->data);
    if (f->number) json_object_set_new(line, "sample", json_integer((json_int_t)f->number));
    if (f->line) json_object_set_new(line, "line", json_integer((json_int_t)f->line));
    json_object_set_new(line, "reason", json_string(f->reason));
    return line;
}

static up_status write_list(const check *c, const char *path) {
    FILE *file = fopen(path, "we");
    if (!file) return up_fail(UP_ERR_IO, path, "cannot write: %s", strerror(errno));
    int failed = 0;
    for (size_t i = 0; i < c->found_count && !failed; i++) {
        json_t *line = line_of(c, &c->found[i]);
        failed = json_dumpf(line, file, JSON_COMPACT) || putc('\n', file) == EOF;
        json_decref(line);
    }
    failed |= fclose(file) != 0;
    return failed ? up_fail(UP_ERR_IO, path, "cannot write: %s", strerror(errno)) : UP_OK;
}

static up_status report(const check *c) {
    if (c->options.json) UP_TRY(print_json(c));
    if (!c->options.json) print_sets(c);
    return c->options.out ? write_list(c, c->options.out) : UP_OK;
}

up_status up_check(const char *config_path, const char *const *overrides, size_t count,
                   const up_check_options *options, size_t *broken) {
    up_status status = UP_OK;
    check c = {.options = *options, .lock = PTHREAD_MUTEX_INITIALIZER};
    *broken = 0;
    UP_GO(up_settings_read(config_path, overrides, count, &c.settings));
    UP_GO(open_check(&c));
    UP_GO(read_sets(&c));
    *broken = c.found_count;
    UP_GO(report(&c)); /* of what was found before it was ended, too */
    if (c.status != UP_OK)
        status = up_fail_again(c.status, c.message);
    else if (c.done < c.total)
        status = up_fail(UP_ERR_INTERRUPTED, "check", "stopped after %zu of %zu samples", c.done, c.total);
done:
    close_check(&c);
    return status;
}
