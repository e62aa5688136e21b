/* test_config.c - YAML configuration: values, defaults, lists, aliases and overrides into a struct, every
 * message of every refusal, a base under a file,
 * and the way back to YAML; and that configs/pretrain-base.yaml is the paper's, and the others over it. */
#include "files/config.h"
#include "files/file.h"
#include "tasks/tasks.h"
#include "tests/support.h"
#include "train/settings.h"
#include "train/trainer.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- a schema with a row of every kind --- */

enum pooling { POOL_FIRST, POOL_MEAN };
typedef struct task {
    char *name;
    double weight;
    char **files;
    size_t file_count;
} task;
typedef struct model {
    int64_t width;
    double dropout;
    enum pooling pooling;
} model;
typedef struct train {
    int64_t steps, seed;
    double lr;
    double *betas;
    size_t beta_count;
    bool resume;
} train;
typedef struct demo {
    model model;
    train train;
    task *tasks;
    size_t task_count;
    char *output, *note;
    int *layouts;
    size_t layout_count;
} demo;

static const char *const poolings[] = {"first", "mean", NULL};
static const up_config_row model_rows[] = {
    {"width", UP_CONFIG_INT, UP_CONFIG_AT(model, width), .required = true, .min = 1, .max = 4096,
     .help = "D"},
    {"dropout", UP_CONFIG_REAL, UP_CONFIG_AT(model, dropout), .max = 1, .help = "share of paths dropped"},
    {"pooling", UP_CONFIG_CHOICE, UP_CONFIG_AT(model, pooling), .choices = poolings, .fallback = "mean"},
    {.key = NULL}};
static const up_config_row train_rows[] = {
    {"steps", UP_CONFIG_INT, UP_CONFIG_AT(train, steps), .fallback = "100", .min = 1, .max = INFINITY},
    {"seed", UP_CONFIG_INT, UP_CONFIG_AT(train, seed)},
    {"lr", UP_CONFIG_REAL, UP_CONFIG_AT(train, lr), .fallback = "1e-3", .help = "peak learning rate"},
    {"betas", UP_CONFIG_REAL, UP_CONFIG_LIST(train, betas, beta_count), .fallback = "[0.9, 0.95]",
     .at_least = 2, .at_most = 2},
    {"resume", UP_CONFIG_BOOL, UP_CONFIG_AT(train, resume)},
    {.key = NULL}};
static const up_config_row task_rows[] = {
    {"name", UP_CONFIG_STRING, UP_CONFIG_AT(task, name), .required = true},
    {"weight", UP_CONFIG_REAL, UP_CONFIG_AT(task, weight), .fallback = "1", .min = -INFINITY, .max = 10},
    {"files", UP_CONFIG_STRING, UP_CONFIG_LIST(task, files, file_count)},
    {.key = NULL}};
static const up_config_schema model_schema = {model_rows, sizeof(model)},
                              train_schema = {train_rows, sizeof(train)},
                              task_schema = {task_rows, sizeof(task)};
static const up_config_row demo_rows[] = {
    {"model", UP_CONFIG_MAP, UP_CONFIG_AT(demo, model), .map = &model_schema, .help = "the encoder"},
    {"train", UP_CONFIG_MAP, UP_CONFIG_AT(demo, train), .map = &train_schema},
    {"tasks", UP_CONFIG_MAP, UP_CONFIG_LIST(demo, tasks, task_count), .map = &task_schema, .help = "the mix"},
    {"output", UP_CONFIG_STRING, UP_CONFIG_AT(demo, output), .fallback = "runs/demo"},
    {"note", UP_CONFIG_STRING, UP_CONFIG_AT(demo, note)},
    {"layouts", UP_CONFIG_CHOICE, UP_CONFIG_LIST(demo, layouts, layout_count), .choices = poolings},
    {.key = NULL}};
static const up_config_schema demo_schema = {demo_rows, sizeof(demo)};

/* --- reading --- */

static up_status parse(const char *text, const char *const *overrides, size_t count, demo *out) {
    return up_config_parse("demo.yaml", text, strlen(text), &demo_schema, overrides, count, out);
}

static void defaults(void) {
    demo c;
    UP_ASSERT_OK(parse("model:\n  width: 64\n", NULL, 0, &c));
    CU_ASSERT_TRUE(c.model.width == 64 && c.model.dropout == 0 && c.model.pooling == POOL_MEAN);
    CU_ASSERT_TRUE(c.train.steps == 100 && c.train.seed == 0 && c.train.lr == 1e-3 && !c.train.resume);
    CU_ASSERT_EQUAL_FATAL(c.train.beta_count, 2);
    CU_ASSERT_TRUE(c.train.betas[0] == 0.9 && c.train.betas[1] == 0.95);
    CU_ASSERT_TRUE(!c.tasks && c.task_count == 0 && !c.note && !c.layouts);
    CU_ASSERT_STRING_EQUAL(c.output, "runs/demo");
    up_config_free(&demo_schema, &c);
    CU_ASSERT_TRUE(!c.output && !c.train.betas && c.model.width == 0);
    up_config_free(&demo_schema, &c); /* again is fine */
}

static const char everything[] =
    "# a comment\n"
    "train: {steps: 7, seed: -9007199254740993, lr: .5e-2, betas: [0, 1], resume: true}\n"
    "model: &m\n"
    "  width: 4096\n"
    "  dropout: 0.25\n"
    "  pooling: \"first\"\n"
    "tasks:\n"
    "  - &first {name: mlm, weight: -2.5, files: &files [a, \"b: c\", 3]}\n"
    "  - name: caption\n"
    "    files: *files\n"
    "output: ~\n"
    "note: 'null'\n"
    "layouts: [mean, first, mean]\n";

static void check_everything(const demo *c) {
    CU_ASSERT_TRUE(c->model.width == 4096 && c->model.dropout == 0.25 && c->model.pooling == POOL_FIRST);
    CU_ASSERT_TRUE(c->train.steps == 7 && c->train.seed == -9007199254740993 && c->train.lr == 0.005);
    CU_ASSERT_TRUE(c->train.resume && c->train.beta_count == 2 && c->train.betas[0] == 0 &&
                   c->train.betas[1] == 1);
    CU_ASSERT_EQUAL_FATAL(c->task_count, 2);
    CU_ASSERT_STRING_EQUAL(c->tasks[0].name, "mlm");
    CU_ASSERT_STRING_EQUAL(c->tasks[1].name, "caption");
    CU_ASSERT_TRUE(c->tasks[0].weight == -2.5 && c->tasks[1].weight == 1);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(c->tasks[i].file_count, 3);
        CU_ASSERT_STRING_EQUAL(c->tasks[i].files[1], "b: c");
        CU_ASSERT_STRING_EQUAL(c->tasks[i].files[2], "3");
    }
    CU_ASSERT_STRING_EQUAL(c->output, "runs/demo"); /* null counts as not given */
    CU_ASSERT_STRING_EQUAL(c->note, "null");        /* quoted, it is text */
    CU_ASSERT_EQUAL_FATAL(c->layout_count, 3);
    CU_ASSERT_TRUE(c->layouts[0] == POOL_MEAN && c->layouts[1] == POOL_FIRST && c->layouts[2] == POOL_MEAN);
}

static void values(void) {
    demo c;
    UP_ASSERT_OK(parse(everything, NULL, 0, &c));
    check_everything(&c);
    up_config_free(&demo_schema, &c);
}

static void overrides_apply(void) {
    static const char *const overrides[] = {
        "model.width=32",         "train.betas=[0.5, 0.75]", "tasks.0.weight=0.5",
        "tasks.caption.weight=3", "tasks.1.files=[x]",       "note=a=b",
        "train.steps=10",         "train.steps=11",          "output=",
        "layouts=null",           "model.pooling=mean"};
    demo c;
    UP_ASSERT_OK(parse(everything, overrides, sizeof overrides / sizeof overrides[0], &c));
    CU_ASSERT_TRUE(c.model.width == 32 && c.model.pooling == POOL_MEAN && c.train.steps == 11);
    CU_ASSERT_TRUE(c.train.betas[0] == 0.5 && c.train.betas[1] == 0.75);
    CU_ASSERT_TRUE(c.tasks[0].weight == 0.5 && c.tasks[1].weight == 3);
    CU_ASSERT_EQUAL(c.tasks[0].file_count, 3); /* the alias of this list was replaced, not the list */
    CU_ASSERT_EQUAL(c.tasks[1].file_count, 1);
    CU_ASSERT_STRING_EQUAL(c.note, "a=b");
    CU_ASSERT_STRING_EQUAL(c.output, "");
    CU_ASSERT_EQUAL(c.layout_count, 0);
    up_config_free(&demo_schema, &c);
    static const char *const made[] = {"model.width=8", "tasks=[{name: a}]", "tasks.a.weight=2"};
    UP_ASSERT_OK(parse("{}", made, 3, &c)); /* maps that the file lacks are made */
    CU_ASSERT_TRUE(c.model.width == 8 && c.task_count == 1 && c.tasks[0].weight == 2);
    up_config_free(&demo_schema, &c);
}

/* --- refusals --- */

#define SOUND "model: {width: 8}\n"

static void messages(void) {
    static const struct {
        const char *text, *override, *message;
    } cases[] = {
        {"", NULL, "demo.yaml: is empty; wanted a map of keys"},
        {"# nothing\n", NULL, "demo.yaml: is empty; wanted a map of keys"},
        {"- 1\n", NULL, "demo.yaml:1: a list; wanted a map"},
        {"word\n", NULL, "demo.yaml:1: \"word\"; wanted a map"},
        {"model:\n  width: abc\n", NULL, "demo.yaml:2: model.width: \"abc\" is not a whole number"},
        {"model:\n  width: '8'\n", NULL, "demo.yaml:2: model.width: \"8\" is not a whole number"},
        {"model: {width: 8.5}\n", NULL, "demo.yaml:1: model.width: \"8.5\" is not a whole number"},
        {"model: {width: 0x10}\n", NULL, "demo.yaml:1: model.width: \"0x10\" is not a whole number"},
        {"model: {width: 1-2}\n", NULL, "demo.yaml:1: model.width: \"1-2\" is not a whole number"},
        {"model: {width: 99999999999999999999}\n", NULL,
         "demo.yaml:1: model.width: 99999999999999999999 is too large"},
        {"model: {width: 0}\n", NULL, "demo.yaml:1: model.width: 0 is out of range; wanted 1 to 4096"},
        {"model: {width: 4097}\n", NULL, "demo.yaml:1: model.width: 4097 is out of range; wanted 1 to 4096"},
        {"model:\n  width:\n", NULL, "demo.yaml:2: model.width: no value; wanted a whole number"},
        {"model: {width: [8]}\n", NULL, "demo.yaml:1: model.width: a list; wanted a whole number"},
        {"model: {width: {a: 8}}\n", NULL, "demo.yaml:1: model.width: a map; wanted a whole number"},
        {"\n\nmodel: {}\n", NULL, "demo.yaml:3: model.width: missing; wanted a whole number"},
        {"\nnote: x\n", NULL, "demo.yaml:2: model.width: missing; wanted a whole number"},
        {"model: {width: ~}\n", NULL, "demo.yaml:1: model.width: missing; wanted a whole number"},
        {"model: 3\n", NULL, "demo.yaml:1: model: \"3\"; wanted a map"},
        {"model:\n", NULL, "demo.yaml:1: model: no value; wanted a map"},
        {"model: {width: 8, width: 9}\n", NULL, "demo.yaml:1: model.width: given twice, first in line 1"},
        {SOUND "note: a\nnote: b\n", NULL, "demo.yaml:3: note: given twice, first in line 2"},
        {SOUND "train:\n  step_count: 3\n", NULL,
         "demo.yaml:3: train.step_count: unknown key (did you mean \"steps\"?)"},
        {SOUND "train: {stesp: 3}\n", NULL,
         "demo.yaml:2: train.stesp: unknown key (did you mean \"steps\"?)"},
        {SOUND "train: {momentum: 3}\n", NULL,
         "demo.yaml:2: train.momentum: unknown key (known here: steps, seed, lr, betas, resume)"},
        {SOUND "x: 3\n", NULL,
         "demo.yaml:2: x: unknown key (known here: model, train, tasks, output, note, layouts)"},
        {SOUND "? [a]\n: 3\n", NULL, "demo.yaml:2: a key that is not a word"},
        {SOUND "train: {lr: fast}\n", NULL, "demo.yaml:2: train.lr: \"fast\" is not a number"},
        {SOUND "train: {lr: nan}\n", NULL, "demo.yaml:2: train.lr: \"nan\" is not a number"},
        {SOUND "train: {lr: .inf}\n", NULL, "demo.yaml:2: train.lr: \".inf\" is not a number"},
        {SOUND "train: {lr: 1e}\n", NULL, "demo.yaml:2: train.lr: \"1e\" is not a number"},
        {SOUND "train: {lr: 1e999}\n", NULL, "demo.yaml:2: train.lr: 1e999 is too large"},
        {SOUND "train: {steps: 0}\n", NULL, "demo.yaml:2: train.steps: 0 is out of range; wanted at least 1"},
        {SOUND "train: {betas: 0.9}\n", NULL, "demo.yaml:2: train.betas: \"0.9\"; wanted a list"},
        {SOUND "train: {betas: {a: 1}}\n", NULL, "demo.yaml:2: train.betas: a map; wanted a list"},
        {SOUND "train: {betas: }\n", NULL, "demo.yaml:2: train.betas: no value; wanted a list"},
        {SOUND "train: {betas: [0.9]}\n", NULL, "demo.yaml:2: train.betas: a list of 1; wanted at least 2"},
        {SOUND "train: {betas: [1, 2, 3]}\n", NULL,
         "demo.yaml:2: train.betas: a list of 3; wanted at most 2"},
        {SOUND "train: {betas: [1,\n x]}\n", NULL, "demo.yaml:3: train.betas.1: \"x\" is not a number"},
        {SOUND "train: {resume: yes}\n", NULL, "demo.yaml:2: train.resume: \"yes\" is not true or false"},
        {SOUND "train: {resume: 'true'}\n", NULL, "demo.yaml:2: train.resume: \"true\" is not true or false"},
        {SOUND "layouts: [first, last]\n", NULL,
         "demo.yaml:2: layouts.1: \"last\" is not one of first, mean"},
        {SOUND "note: [a]\n", NULL, "demo.yaml:2: note: a list; wanted text"},
        {SOUND "note: \"a\\0b\"\n", NULL, "demo.yaml:2: a NUL character"},
        {SOUND "tasks:\n  - name: a\n  - weight: 2\n", NULL,
         "demo.yaml:4: tasks.1.name: missing; wanted text"},
        {SOUND "tasks:\n  - name: a\n    weight: 11\n", NULL,
         "demo.yaml:4: tasks.0.weight: 11 is out of range; wanted at most 10"},
        {SOUND "tasks: [a]\n", NULL, "demo.yaml:2: tasks.0: \"a\"; wanted a map"},
        {SOUND "tasks: {name: a}\n", NULL, "demo.yaml:2: tasks: a map; wanted a list"},
        {SOUND "tasks: [\n", NULL, "demo.yaml:3: not YAML: did not find expected node content"},
        {SOUND "note: *nothing\n", NULL, "demo.yaml:2: not YAML: found undefined alias"},
        {SOUND "note: \"\xff\"\n", NULL, "not YAML: invalid leading UTF-8 octet"},
        {SOUND "---\nnote: a\n", NULL, "demo.yaml:2: a second document"},
        {SOUND "tasks: &a [*a]\n", NULL, "demo.yaml:2: nested deeper than 32, or an alias inside itself"},
        {SOUND, "train.steps=x", "command line: train.steps: \"x\" is not a whole number"},
        {SOUND, "train.step_count=3",
         "command line: train.step_count: unknown key (did you mean \"steps\"?)"},
        {SOUND, "train.steps", "command line: \"train.steps\" is not key=value"},
        {SOUND, "=3", "command line: \"=3\" is not key=value"},
        {SOUND, "train.steps=", "command line: train.steps: \"\" is not a whole number"},
        {SOUND, "train.steps=[1", "command line: train.steps: not YAML: did not find expected ',' or ']'"},
        {SOUND, "train=3", "command line: train: \"3\"; wanted a map"},
        {SOUND, "model.width.x=3",
         "command line: model.width.x: \"x\" is wanted inside \"8\", which is not a map"},
        {SOUND "tasks: [{name: a}]\n", "tasks.1.weight=3",
         "command line: tasks.1.weight: no element \"1\" in a list of 1"},
        {SOUND "tasks: [{name: a}]\n", "tasks.b.weight=3",
         "command line: tasks.b.weight: no element \"b\" in a list of 1"},
        {SOUND "tasks: [{name: a}]\n", "tasks.a.weight=x",
         "command line: tasks.0.weight: \"x\" is not a number"},
        {SOUND, "tasks.0.weight=3", "command line: tasks: a map; wanted a list"},
        {SOUND, "..=3", "command line: unknown key (known here: model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        demo c;
        up_status status = parse(cases[i].text, &cases[i].override, cases[i].override != NULL, &c);
        up_status wanted = strncmp(cases[i].message, "command", 7) ? UP_ERR_FORMAT : UP_ERR_ARGUMENT;
        int sound = status == wanted && strstr(up_last_error(), cases[i].message);
        if (!sound) fprintf(stderr, "\"%s\"; wanted \"%s\"\n", up_last_error(), cases[i].message);
        CU_ASSERT_TRUE(sound);
        CU_ASSERT_TRUE(!c.output && !c.tasks && !c.train.betas); /* nothing half-read is left */
    }
}

static int refused(const char *text, size_t size, const char *message) {
    demo c;
    up_status status = up_config_parse("big.yaml", text, size, &demo_schema, NULL, 0, &c);
    int sound = status == UP_ERR_FORMAT && strstr(up_last_error(), message);
    if (!sound) fprintf(stderr, "\"%s\"; wanted \"%s\"\n", up_last_error(), message);
    return sound;
}

static void too_large(void) {
    static char text[300000];
    memset(text, ' ', sizeof text);
    CU_ASSERT_TRUE(refused(text, sizeof text, "big.yaml: 300000 bytes; wanted at most 262144"));
    memset(text, '[', 40);
    memset(text + 40, ']', 40);
    CU_ASSERT_TRUE(refused(text, 80, "big.yaml:1: nested deeper than 32"));
    memset(text, '[', 100000); /* which libyaml alone would take half a minute to refuse */
    CU_ASSERT_TRUE(refused(text, 100000, "big.yaml: nested deeper than 32"));
    /* a long text behind many aliases, and lists of lists of aliases */
    int length = snprintf(text, sizeof text, "note: &n \"%0100000d\"\nlayouts: [", 0);
    for (int i = 0; i < 1000; i++) length += sprintf(text + length, "*n, ");
    length += sprintf(text + length, "]\n");
    CU_ASSERT_TRUE(refused(text, (size_t)length, "too large: its aliases expand to more than 4194304 bytes"));
    length = sprintf(text, "a0: &a0 [x]\n");
    for (int i = 1; i < 20; i++)
        length +=
            sprintf(text + length, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1);
    CU_ASSERT_TRUE(refused(text, (size_t)length, "too large: its aliases expand"));
}

static void files(void) {
    demo c;
    CU_ASSERT_EQUAL(up_config_read("/tmp/no/such.yaml", &demo_schema, NULL, 0, &c), UP_ERR_IO);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "/tmp/no/such.yaml: cannot open: No such file or directory");
    char path[] = "/tmp/test_config.XXXXXX";
    close(mkstemp(path));
    CU_ASSERT_EQUAL(up_config_read(path, &demo_schema, NULL, 0, &c), UP_ERR_FORMAT);
    UP_ASSERT_OK(up_file_write(path, everything, strlen(everything)));
    UP_ASSERT_OK(up_config_read(path, &demo_schema, NULL, 0, &c));
    check_everything(&c);
    up_config_free(&demo_schema, &c);
    remove(path);
}

/* --- a base --- */

static char based[] = "/tmp/test_config.XXXXXX";

static const char *in_folder(const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", based, name);
    return path;
}

static void put(const char *name, const char *text) {
    UP_ASSERT_OK(up_file_write(in_folder(name), text, strlen(text)));
}

static up_status read_over(const char *text, const char *override, demo *c) {
    put("over.yaml", text);
    return up_config_read(in_folder("over.yaml"), &demo_schema, &override, override != NULL, c);
}

static const char layered[] = "base: base.yaml\nmodel: {width: 8}\ntrain: {lr: 2, betas: [0, 0]}\n"
                              "tasks: {1: {weight: 5}, mlm: {files: [z]}}\nnote: ~\n";

/* Keys of maps and elements of lists are laid over, all else is replaced, and overrides go over both. */
static void bases(void) {
    demo c;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(based));
    put("base.yaml", everything);
    UP_ASSERT_OK(read_over(layered, "tasks.caption.weight=6", &c));
    CU_ASSERT_TRUE(c.model.width == 8 && c.model.dropout == 0.25 && c.model.pooling == POOL_FIRST);
    CU_ASSERT_TRUE(c.train.steps == 7 && c.train.lr == 2 && c.train.betas[1] == 0 && c.train.resume);
    CU_ASSERT_EQUAL_FATAL(c.task_count, 2);
    CU_ASSERT_TRUE(c.tasks[0].weight == -2.5 && c.tasks[0].file_count == 1 && c.tasks[1].weight == 6);
    CU_ASSERT_EQUAL(c.tasks[1].file_count, 3);
    CU_ASSERT_TRUE(!c.note && c.layout_count == 3);
    up_config_free(&demo_schema, &c);
    put("base.yaml", "base: first.yaml\ntrain: {steps: 8}\n"); /* of a base */
    put("first.yaml", everything);
    UP_ASSERT_OK(read_over("base: base.yaml\n", NULL, &c));
    CU_ASSERT_TRUE(c.train.steps == 8 && c.train.lr == 0.005 && c.task_count == 2);
    up_config_free(&demo_schema, &c);
}

static void wrong_bases(void) {
    static const struct {
        const char *text, *base, *message;
    } cases[] = {
        {"base: none.yaml\n", SOUND, "/none.yaml: cannot open"},
        {"base: ../base.yaml\n", SOUND,
         "base: \"../base.yaml\"; wanted the name of a file in the same folder"},
        {"base: [base.yaml]\n", SOUND, "over.yaml:1: base: a list; wanted the name of a file"},
        {"base:\n", SOUND, "over.yaml:1: base: no value; wanted the name of a file"},
        {"base: over.yaml\n", SOUND, "over.yaml:1: base: more than 8 bases, or a file that is its own"},
        {"base: base.yaml\n", "note: x\n", "base.yaml:1: model.width: missing"},
        {"base: base.yaml\n", "\nmodel: {width: x}\n", "base.yaml:2: model.width: \"x\""},
        {"base: base.yaml\n", "[a]\n", "base.yaml:1: a list; wanted a map"},
        {"base: base.yaml\n", "#\n", "base.yaml: is empty"},
        {"base: base.yaml\nmodel:\n  width: 0\n", SOUND, "over.yaml:3: model.width: 0 is out of range"},
        {"base: base.yaml\nbase: base.yaml\n", SOUND, "over.yaml:2: base: given twice, first in line 1"},
        {"base: base.yaml\nnote: a\nnote: b\n", SOUND, "over.yaml:3: note: given twice, first in line 2"},
        {"base: base.yaml\nnotes: a\n", SOUND, "over.yaml:2: notes: unknown key (did you mean \"note\"?)"},
        {"base: base.yaml\ntasks: {b: {weight: 2}}\n", SOUND "tasks: [{name: a}]\n",
         "over.yaml:2: tasks: no element \"b\" in the base's list of 1"},
        {"base: base.yaml\ntasks: {a: 2}\n", SOUND "tasks: [{name: a}]\n",
         "over.yaml:2: tasks.0: \"2\"; wanted a map"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        demo c;
        put("base.yaml", cases[i].base);
        int sound = read_over(cases[i].text, NULL, &c) != UP_OK && strstr(up_last_error(), cases[i].message);
        if (!sound) fprintf(stderr, "\"%s\"; wanted \"%s\"\n", up_last_error(), cases[i].message);
        CU_ASSERT_TRUE(sound);
        CU_ASSERT_TRUE(!c.output && !c.tasks && !c.train.betas);
    }
    static const char *const names[] = {"base.yaml", "first.yaml", "over.yaml", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) remove(in_folder(names[i]));
}

/* A schema whose own default is wrong says so instead of blaming the file. */
static void wrong_default(void) {
    static const up_config_row rows[] = {
        {"steps", UP_CONFIG_INT, UP_CONFIG_AT(train, steps), .fallback = "many"}, {.key = NULL}};
    static const up_config_schema schema = {rows, sizeof(train)};
    train c;
    CU_ASSERT_EQUAL(up_config_parse("f", "{}", 2, &schema, NULL, 0, &c), UP_ERR_FORMAT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "default of steps: \"many\" is not a whole number");
}

/* Damaged text is an error or a sound configuration, never a crash. */
static void damaged(void) {
    size_t size = strlen(everything);
    for (uint64_t i = 0; i < 4000; i++) {
        up_rng rng = up_rng_make(up_test_seed(), i, 2, 0);
        char text[sizeof everything];
        memcpy(text, everything, size);
        for (uint32_t n = 1 + up_rng_below(&rng, 3); n--;)
            text[up_rng_below(&rng, (uint32_t)size)] = "{}[]:,-&*'\" \n#?|a0\t\xc3"[up_rng_below(&rng, 20)];
        size_t cut = up_rng_below(&rng, 4) ? size : up_rng_below(&rng, (uint32_t)size);
        demo c;
        up_status status = up_config_parse("f", text, cut, &demo_schema, NULL, 0, &c);
        int sound = status != UP_OK ? !c.output && !c.tasks : c.model.width >= 1 && c.model.width <= 4096;
        if (!sound)
            fprintf(stderr, "UP_TEST_SEED=%llu, text %d\n", (unsigned long long)up_test_seed(), (int)i);
        CU_ASSERT_TRUE(sound);
        up_config_free(&demo_schema, &c);
    }
}

/* --- and back --- */

static void dump(void) {
    demo c, again;
    char *text, *text_again;
    UP_ASSERT_OK(parse(everything, NULL, 0, &c));
    c.train.lr = 1.0 / 3;
    UP_ASSERT_OK(up_config_dump(&demo_schema, &c, &text));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "lr: 0.3333333333333333\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "betas: [0, 1]\n"));
    UP_ASSERT_OK(parse(text, NULL, 0, &again));
    CU_ASSERT_EQUAL(again.train.lr, 1.0 / 3);
    again.train.lr = 0.005;
    check_everything(&again);
    again.train.lr = c.train.lr;
    UP_ASSERT_OK(up_config_dump(&demo_schema, &again, &text_again));
    CU_ASSERT_STRING_EQUAL(text, text_again);
    free(text);
    free(text_again);
    up_config_free(&demo_schema, &again);

    free(c.note);
    c.note = strdup("two\nlines: \"é\" \t# no comment");
    UP_ASSERT_OK(up_config_dump(&demo_schema, &c, &text));
    UP_ASSERT_OK(parse(text, NULL, 0, &again));
    CU_ASSERT_STRING_EQUAL(again.note, c.note);
    up_config_free(&demo_schema, &again);
    free(text);
    strcpy(c.note, "\xff");
    CU_ASSERT_EQUAL(up_config_dump(&demo_schema, &c, &text), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(text);
    up_config_free(&demo_schema, &c);
}

static void description(void) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    up_config_describe(&demo_schema, out);
    fclose(out);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "model: map; the encoder\nmodel.width: a whole number; required; D\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "model.pooling: a choice of first, mean; default mean"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "tasks.N: list of maps; the mix\ntasks.N.name: text; required"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "train.betas: list of a number; default [0.9, 0.95]"));
    free(text);
}

/* --- the paper's pre-training --- */

/* Table 10, in the order of the configuration; smoothing and loss weight are appendix E's. */
static const struct table10_row {
    const char *kind, *data;
    int batch;
    double weight, smoothing, loss_weight;
} table10[] = {
    {"image_classification", "imagenet21k", 64, 0.333, 0.1, 1},
    {"video_classification", "kinetics700", 4, 0.0925, 0.1, 0.05},
    {"video_classification", "moments", 24, 0.0185, 0.1, 0.05},
    {"mlm", "bookswiki", 64, 0.07775, 0, 1},
    {"mlm", "paq", 512, 0.0222, 0, 1},
    {"image_mlm", "yfcc", 64, 0.02778, 0, 1},
    {"image_mlm", "cc12m", 64, 0.02778, 0, 1},
    {"image_mlm", "cc3m", 64, 0.01389, 0, 1},
    {"image_mlm", "visualgenome", 64, 0.01389, 0, 1},
    {"image_mlm", "coco", 64, 0.01389, 0, 1},
    {"image_mlm", "sbu", 64, 0.01389, 0, 1},
    {"ar", "bookswiki", 64, 0.07775, 0, 1},
    {"ar", "paq", 400, 0.0222, 0, 1},
    {"caption", "yfcc", 56, 0.02778, 0, 1},
    {"caption", "cc12m", 56, 0.02778, 0, 1},
    {"caption", "cc3m", 56, 0.01389, 0, 1},
    {"caption", "visualgenome", 56, 0.01389, 0, 1},
    {"caption", "coco", 56, 0.01389, 0, 1},
    {"caption", "sbu", 56, 0.01389, 0, 1},
    {"image_text_retrieval", "yfcc", 128, 0.02778, 0.1, 1},
    {"image_text_retrieval", "cc12m", 128, 0.02778, 0.1, 1},
    {"image_text_retrieval", "cc3m", 128, 0.01389, 0.1, 1},
    {"image_text_retrieval", "visualgenome", 128, 0.01389, 0.1, 1},
    {"image_text_retrieval", "coco", 128, 0.01389, 0.1, 1},
    {"image_text_retrieval", "sbu", 128, 0.01389, 0.1, 1},
    {"text_retrieval", "paq", 512, 0.0222, 0.1, 1},
};
enum { TABLE10_ROWS = sizeof table10 / sizeof table10[0] };

/* The dataset is told by its folder: data/NAME/. `share` is what is left of the batch. */
static int is_row(const up_task_settings *t, const struct table10_row *row, int share) {
    char folder[64];
    snprintf(folder, sizeof folder, "/../data/%s/", row->data);
    int batch = row->batch > share ? row->batch / share : 1;
    return !strcmp(up_tasks_table[t->kind].name, row->kind) && strstr(t->data, folder) && t->batch == batch &&
           t->weight == row->weight && t->smoothing == row->smoothing && t->loss_weight == row->loss_weight;
}

/* Appendix E: what is done to pictures and clips. */
static int is_augmented(const up_task_settings *t) {
    const up_task *task = &up_tasks_table[t->kind];
    const up_augment_settings *a = &t->augment;
    if (task->video) return t->resize == 256 && t->resize_most == 320 && t->stride == 32 && !a->operations;
    if (!task->image) return t->resize == 0 && !a->operations;
    if (!strstr(t->data, "imagenet21k")) return t->resize == 256 && !t->resize_most && !a->operations;
    return t->flip && a->operations == 2 && a->erase == 0.25 && a->mixup == 0.8 && a->cutmix == 1;
}

static void pretraining_tasks(void) {
    up_settings s;
    double weights = 0;
    UP_ASSERT_OK(up_settings_read(up_test_path("configs/pretrain-base.yaml"), NULL, 0, &s));
    CU_ASSERT_EQUAL_FATAL(s.task_count, TABLE10_ROWS);
    CU_ASSERT_EQUAL(s.task_count, 26);
    for (size_t i = 0; i < s.task_count; i++) {
        int sound = is_row(&s.tasks[i], &table10[i], 1) && is_augmented(&s.tasks[i]);
        if (!sound) fprintf(stderr, "task %zu, %s, is not the paper's\n", i, s.tasks[i].name);
        CU_ASSERT_TRUE(sound);
        weights += s.tasks[i].weight;
    }
    CU_ASSERT_DOUBLE_EQUAL(weights, 0.99946, 1e-9); /* shares of 1, as rounded in the table */
    CU_ASSERT_TRUE(s.tasks[1].frames == 8 && s.tasks[2].frames == 3);
    CU_ASSERT_PTR_NOT_NULL(s.tasks[1].leave_out);
    CU_ASSERT_PTR_NOT_NULL(s.tasks[0].names);
    up_settings_free(&s);
}

/* What lies over it: the same rows, at the sizes that each says. */
static const struct variant {
    const char *path;
    int share; /* of a batch, one part in so many */
    int layers, width, heads, ffn, image_size;
    int64_t steps;
} variants[] = {
    {"configs/pretrain-small.yaml", 4, 12, 384, 6, 1536, 224, 500000},
    {"configs/pretrain-tiny.yaml", 16, 12, 192, 3, 768, 224, 500000},
    {"configs/pretrain-released-base.yaml", 1, 12, 768, 12, 3072, 160, 200000},
    {"configs/pretrain-released-base-224.yaml", 1, 12, 768, 12, 3072, 224, 45000},
};

/* A second stage goes over the model that the first one ends with. */
static void model_of(const up_settings *s, up_config *c) {
    up_settings first;
    up_config from;
    if (!s->init_from) {
        UP_ASSERT_OK(up_settings_model(s, c));
        return;
    }
    UP_ASSERT_OK(up_settings_read(up_test_path("configs/pretrain-released-base.yaml"), NULL, 0, &first));
    CU_ASSERT_STRING_EQUAL(s->init_from, first.run);
    UP_ASSERT_OK(up_settings_model(&first, &from));
    up_settings_free(&first);
    UP_ASSERT_OK(up_settings_model_over(s, &from, c));
}

static void check_variant(const struct variant *v) {
    up_settings s;
    up_config c;
    UP_ASSERT_OK(up_settings_read(up_test_path(v->path), NULL, 0, &s));
    CU_ASSERT_EQUAL_FATAL(s.task_count, TABLE10_ROWS);
    for (size_t i = 0; i < s.task_count; i++) {
        int sound = is_row(&s.tasks[i], &table10[i], v->share);
        /* as much of a picture is left by the crop as there */
        if (s.tasks[i].resize) sound &= s.tasks[i].resize == lround(256.0 * v->image_size / 224);
        if (s.tasks[i].resize_most) sound &= s.tasks[i].resize_most == lround(320.0 * v->image_size / 224);
        if (!sound) fprintf(stderr, "%s: task %zu, %s, is not the paper's\n", v->path, i, s.tasks[i].name);
        CU_ASSERT_TRUE(sound);
    }
    CU_ASSERT_EQUAL(s.steps, v->steps);
    CU_ASSERT_STRING_NOT_EQUAL(s.run, "runs/pretrain-base");
    model_of(&s, &c);
    CU_ASSERT_TRUE(c.layers == v->layers && c.width == v->width && c.heads == v->heads && c.ffn == v->ffn);
    CU_ASSERT_TRUE(c.image_size == v->image_size && c.patch == 16 && c.tasks == 8 && c.drop_path == 0.1);
    up_settings_free(&s);
}

static void pretraining_variants(void) {
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) check_variant(&variants[i]);
}

/* The recipe of the authors' released model, in both stages. */
static void released_recipe(void) {
    for (size_t i = 2; i < sizeof variants / sizeof variants[0]; i++) {
        up_settings s;
        up_config c;
        UP_ASSERT_OK(up_settings_read(up_test_path(variants[i].path), NULL, 0, &s));
        up_adamw a = up_settings_adamw(&s);
        CU_ASSERT_TRUE(a.beta1 == 0.9 && a.beta2 == 0.95 && a.eps == 1e-6 && a.decay == 0.2);
        CU_ASSERT_TRUE(a.max_norm == 0.1 && a.min_scale == 2048 && a.good_steps == 200);
        CU_ASSERT_TRUE(s.optimizer.lr == 1e-3 && s.optimizer.min_lr == 1e-6 && s.optimizer.warmup == 10000);
        CU_ASSERT_EQUAL(up_settings_dtype(&s), UP_F16);
        CU_ASSERT_EQUAL(s.tasks[3].text_limit, 128);
        model_of(&s, &c);
        CU_ASSERT_TRUE(c.shared_norm && c.image_time && c.fixed_space && c.output_head && c.layer_scale);
        up_settings_free(&s);
    }
}

/* Each iteration of each rank draws a row with the probability of its weight: 131,072 draws of 8 ranks. */
static void pretraining_order(void) {
    enum { RANKS = 8, ROUNDS = 16384, DRAWS = RANKS * ROUNDS };
    const double critical = 44.31; /* chi-square of 25 degrees of freedom at p = 0.01 */
    const up_rounds rounds = {.ranks = RANKS};
    double total = 0, chi = 0;
    int64_t drawn[TABLE10_ROWS] = {0};
    up_settings s;
    UP_ASSERT_OK(up_settings_read(up_test_path("configs/pretrain-base.yaml"), NULL, 0, &s));
    CU_ASSERT_EQUAL_FATAL(s.task_count, TABLE10_ROWS);
    CU_ASSERT_TRUE(s.mixed);
    for (int64_t i = 0; i < DRAWS; i++) drawn[up_order_task(&s, &rounds, i)]++;
    for (size_t t = 0; t < TABLE10_ROWS; t++) total += s.tasks[t].weight;
    for (size_t t = 0; t < TABLE10_ROWS; t++) {
        double wanted = DRAWS * s.tasks[t].weight / total;
        double off = (double)drawn[t] - wanted;
        chi += off * off / wanted;
        CU_ASSERT_TRUE(drawn[t] > 0);
    }
    if (!(chi < critical)) fprintf(stderr, "chi-square %.2f\n", chi);
    CU_ASSERT_TRUE(chi < critical);
    up_settings_free(&s);
}

/* Section 4.2. */
static void pretraining_optimizer(void) {
    up_settings s;
    up_config c;
    UP_ASSERT_OK(up_settings_read(up_test_path("configs/pretrain-base.yaml"), NULL, 0, &s));
    CU_ASSERT_TRUE(s.steps == 500000 && s.optimizer.warmup == 50000 && s.mixed && !s.init_from);
    CU_ASSERT_TRUE(s.optimizer.lr == 2e-4 && s.optimizer.min_lr == 0 && s.optimizer.layer_decay == 1);
    CU_ASSERT_TRUE(s.optimizer.decay == 0.05 && s.optimizer.clip == 5);
    UP_ASSERT_OK(up_settings_model(&s, &c));
    CU_ASSERT_TRUE(c.layers == 12 && c.width == 768 && c.heads == 12 && c.ffn == 3072);
    CU_ASSERT_TRUE(c.image_size == 224 && c.patch == 16 && c.frames == 8 && c.text_positions == 256);
    CU_ASSERT_TRUE(c.drop_path == 0.1 && c.tasks == 8);
    up_settings_free(&s);
}

const char *const up_suite_name = "config";
const up_test up_tests[] = {{"defaults", defaults},
                            {"values", values},
                            {"overrides_apply", overrides_apply},
                            {"messages", messages},
                            {"too_large", too_large},
                            {"files", files},
                            {"bases", bases},
                            {"wrong_bases", wrong_bases},
                            {"wrong_default", wrong_default},
                            {"damaged", damaged},
                            {"dump", dump},
                            {"description", description},
                            {"pretraining_tasks", pretraining_tasks},
                            {"pretraining_variants", pretraining_variants},
                            {"released_recipe", released_recipe},
                            {"pretraining_order", pretraining_order},
                            {"pretraining_optimizer", pretraining_optimizer},
                            {NULL, NULL}};
