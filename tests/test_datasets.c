/* test_datasets.c - every format of src/data/datasets/readers.c: a tiny sample in its own layout, value by
 * value; the index; broken and hostile files. */
#include "data/dataset.h"
#include "data/datasets/reader.h"
#include "files/file.h"
#include "tests/lab.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const up_suite_name = "datasets";

/* Thousands of these are written, so none is synced. */
static const char *write_plain(const char *name, const void *bytes, size_t size) {
    const char *path = up_lab_path(name);
    FILE *f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fwrite(bytes, 1, size, f) == size && !fclose(f));
    return path;
}

/* ---- all samples of a dataset as text: name=value|name=value, a line each ---- */

static char *out;

static const char *describe(const up_dataset *d) {
    size_t size;
    up_sample s = {0};
    free(out);
    FILE *f = open_memstream(&out, &size);
    for (size_t i = 0; i < d->count; i++) {
        UP_ASSERT_OK(up_dataset_sample(d, i, &s));
        for (size_t k = 0; k < s.count; k++)
            fprintf(f, "%s%s=%s", k ? "|" : "", s.memory + s.values[k].name, s.memory + s.values[k].text);
        fprintf(f, "\n");
    }
    fclose(f);
    up_sample_free(&s);
    return out;
}

static void expect(const up_dataset_options *options, const char *want) {
    up_dataset d;
    UP_ASSERT_OK(up_dataset_open(options, &d));
    describe(&d);
    if (strcmp(out, want)) fprintf(stderr, "found\n%swanted\n%s", out, want);
    CU_ASSERT_STRING_EQUAL(out, want);
    up_dataset_close(&d);
}

/* A broken file is refused at once, a broken line of a list when it is read. */
static void expect_failure(const up_dataset_options *options, up_status want, const char *a, const char *b) {
    up_dataset d;
    up_sample s = {0};
    up_status status = up_dataset_open(options, &d);
    for (size_t i = 0; status == UP_OK && i < d.count; i++) status = up_dataset_sample(&d, i, &s);
    CU_ASSERT_EQUAL(status, want);
    up_sample_free(&s);
    up_dataset_close(&d);
    const char *said = up_last_error();
    if (!strstr(said, a) || !strstr(said, b)) fprintf(stderr, "\"%s\", \"%s\" not in: %s\n", a, b, said);
    CU_ASSERT(strstr(said, a) && strstr(said, b));
    CU_ASSERT_PTR_NULL(d.index.map);
}

/* ---- one file a format ---- */

static const struct layout {
    const char *format, *name, *split, *text, *samples; /* format NULL: told by the name */
} layouts[] = {
    {NULL, "list.tsv", NULL, "image\tlabel\na.jpg\tcat\n\nb.jpg\t\n",
     "image=a.jpg|label=cat\nimage=b.jpg|label=\n"},
    {NULL, "list.csv", NULL, "image,text\r\na.jpg,\"a \"\"cat\"\", and\na dog\"\r\n\r\nb.jpg,\n",
     "image=a.jpg|text=a \"cat\", and\na dog\nimage=b.jpg|text=\n"},
    {NULL, "list.jsonl", NULL, "{\"image\": \"a.jpg\", \"text\": [\"a\", \"b\"], \"n\": 3}\n{\"x\": 0.5}\n",
     "image=a.jpg|text=a|text=b|n=3\nx=0.5\n"},
    {NULL, "book.txt", NULL, "\xef\xbb\xbfOne line.\r\nAnother.\n\nThe next.",
     "text=One line.\ntext=Another.\ntext=The next.\n"},
    {"imagenet", "train_cls.txt", NULL,
     "n01440764/n01440764_10026 1\nn01443537/n01443537_2.JPEG\nval/ILSVRC2012_val_00000001.JPEG n01440764\n",
     "image=n01440764/n01440764_10026.JPEG|label=n01440764|key=n01440764/n01440764_10026.JPEG\n"
     "image=n01443537/n01443537_2.JPEG|label=n01443537|key=n01443537/n01443537_2.JPEG\n"
     "image=val/ILSVRC2012_val_00000001.JPEG|label=n01440764|key=val/ILSVRC2012_val_00000001.JPEG\n"},
    {"kinetics", "kinetics.csv", "train",
     "label,youtube_id,time_start,time_end,split\n\"tasting, beer\",--3ouPhoy2A,20,30,train\n"
     "testifying,---0dWlqevI,19,29,validate\n",
     "video=--3ouPhoy2A_000020_000030.mp4|label=tasting, beer|key=--3ouPhoy2A\n"},
    {"moments", "trainingSet.csv", NULL, "adult+female+singing/a.mp4,adult+female+singing,3,0\n",
     "video=adult+female+singing/a.mp4|label=adult+female+singing|key=adult+female+singing/a.mp4\n"},
    {NULL, "results_20130124.token", NULL, "1.jpg#0\tTwo men .\n1.jpg#1\tMen outside .\n2.jpg#0\tA dog .\n",
     "image=1.jpg|key=1.jpg|text=Two men .|text=Men outside .\nimage=2.jpg|key=2.jpg|text=A dog .\n"},
    {"msvd", "AllVideoDescriptions.txt", NULL, "# remark\n-4ws_5_15 a squirrel eats\n-4ws_5_15 it eats\n",
     "video=-4ws_5_15.avi|key=-4ws_5_15|text=a squirrel eats|text=it eats\n"},
    {NULL, "dataset_coco.json", "train+restval",
     "{\"images\": [{\"filepath\": \"val2014\", \"filename\": \"a.jpg\", \"split\": \"restval\", "
     "\"sentences\": "
     "[{\"raw\": \"A man.\"}, {\"raw\": \"One.\"}]}, {\"filename\": \"b.jpg\", \"split\": \"test\", "
     "\"sentences\": []}]}",
     "image=val2014/a.jpg|key=a.jpg|text=A man.|text=One.\n"},
    {NULL, "captions_val2014.json", NULL,
     "{\"images\": [{\"id\": 9, \"file_name\": \"a.jpg\"}, {\"id\": 4, \"file_name\": \"b.jpg\"}, {\"id\": "
     "5, "
     "\"file_name\": \"c.jpg\"}], \"annotations\": [{\"image_id\": 4, \"caption\": \"four\"}, {\"image_id\": "
     "9, "
     "\"caption\": \"nine\"}, {\"image_id\": 4, \"caption\": \"again\"}]}",
     "image=a.jpg|key=9|text=nine\nimage=b.jpg|key=4|text=four|text=again\n"},
    {NULL, "region_descriptions.json", NULL,
     "[{\"id\": 1, \"regions\": [{\"region_id\": 7, \"image_id\": 1, \"phrase\": \"a clock\", \"x\": 1, "
     "\"y\": 2, "
     "\"width\": 3, \"height\": 4}]}]",
     "image=1.jpg|text=a clock|key=7|x=1|y=2|width=3|height=4\n"},
    {NULL, "videodatainfo.json", "train",
     "{\"videos\": [{\"video_id\": \"video12\", \"split\": \"train\"}, {\"video_id\": \"video2\", \"split\": "
     "\"test\"}], \"sentences\": [{\"video_id\": \"video12\", \"caption\": \"a car\"}, {\"video_id\": "
     "\"video2\", \"caption\": \"x\"}]}",
     "video=video12.mp4|key=video12|text=a car\n"},
    {"vqa", "v2_questions.json", "val2014",
     "{\"questions\": [{\"question_id\": 262148000, \"image_id\": 262148, \"question\": \"Where?\"}]}",
     "image=COCO_val2014_000000262148.jpg|question=Where?|key=262148000\n"},
    {"glue", "cola.tsv", NULL, "gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThe more.\n",
     "label=1|text=Our friends won't buy this.\nlabel=0|text=The more.\n"},
    {"glue", "mrpc.tsv", NULL,
     "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said \"no.\tNo, he said.\n",
     "label=1|first=He said \"no.|second=No, he said.|text=He said \"no. No, he said.\n"},
    {"glue", "qnli.tsv", NULL, "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn May.\tentailment\n",
     "key=0|first=When?|second=In May.|label=entailment|text=When? In May.\n"},
    {"glue", "sst2.tsv", NULL, "sentence\tlabel\nit 's a charm\t1\n", "text=it 's a charm|label=1\n"},
};

static void test_layouts(void) {
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const struct layout *l = &layouts[i];
        const up_dataset_options options = {
            .data = up_lab_text(l->name, l->text), .format = l->format, .split = l->split};
        expect(&options, l->samples);
    }
}

/* CoLA has no line of names, so its first line is a sample; the others' first line is none (both above).
 * VQA's answers are in a second file. */
static void test_answers(void) {
    const char *questions =
        up_lab_text("v2_questions.json", "{\"questions\": [{\"question_id\": 7, \"image_id\": 1, "
                                         "\"question\": \"Where?\"}, {\"question_id\": 8, "
                                         "\"image_id\": 1, \"question\": \"Who?\"}]}");
    const char *answers = up_lab_text(
        "v2_annotations.json",
        "{\"annotations\": [{\"question_id\": 8, \"multiple_choice_answer\": \"net\", \"answers\": "
        "[{\"answer\": \"net\"}, {\"answer\": \"the net\"}]}]}");
    expect(&(up_dataset_options){.data = questions, .format = "vqa", .annotations = answers},
           "image=000000000001.jpg|question=Where?|key=7\n"
           "image=000000000001.jpg|question=Who?|key=8|label=net|answer=net|answer=the net\n");
}

/* CC3M's TSV and others have no line of names. */
static void test_given_columns(void) {
    expect(
        &(up_dataset_options){.data = up_lab_text("train.tsv", "a cat\thttp://x\n"), .columns = "text, url"},
        "text=a cat|url=http://x\n");
    expect(&(up_dataset_options){.data = up_lab_text("train.csv", "\"a, cat\",b\n"), .columns = "text,url"},
           "text=a, cat|url=b\n");
    expect_failure(&(up_dataset_options){.data = up_lab_path("train.tsv"), .columns = "text"}, UP_ERR_FORMAT,
                   "train.tsv: line 1", ": 2 cells");
}

/* ---- folders ---- */

static void test_folders(void) {
    static const char *const files[] = {"zoo/cat/b.jpg", "zoo/cat/a.PNG", "zoo/ant/x.mp4",
                                        "zoo/ant/notes.md"};
    up_dataset d;
    for (int i = 0; i < 4; i++) {
        char *folder = strdup(up_lab_path(files[i]));
        *strrchr(folder, '/') = 0;
        UP_ASSERT_OK(up_make_folders(folder));
        free(folder);
        up_lab_text(files[i], "x");
    }
    const up_dataset_options options = {.data = up_lab_path("zoo"), .index = up_lab_path("zoo.index")};
    expect(&options, "video=ant/x.mp4|label=ant|key=ant/x.mp4\nimage=cat/a.PNG|label=cat|key=cat/a.PNG\n"
                     "image=cat/b.jpg|label=cat|key=cat/b.jpg\n");
    UP_ASSERT_OK(up_dataset_open(&options, &d));
    CU_ASSERT_STRING_EQUAL(up_dataset_class(&d, 0), "ant");
    CU_ASSERT_STRING_EQUAL(up_dataset_class(&d, 1), "cat");
    CU_ASSERT_PTR_NULL(up_dataset_class(&d, 2));
    up_dataset_close(&d);
    up_lab_text("zoo/cat/c.jpg", "x"); /* a file more makes the index anew */
    UP_ASSERT_OK(up_dataset_open(&options, &d));
    CU_ASSERT_EQUAL(d.count, 4);
    up_dataset_close(&d);
}

/* ---- shards, written here: 512 bytes of header, the data, filled to 512 ---- */

typedef struct tar {
    char bytes[32768];
    size_t size;
} tar;

static void put_member(tar *t, const char *name, char type, const char *data, size_t size, size_t said) {
    char *h = t->bytes + t->size;
    unsigned sum = 0;
    memset(h, 0, 512);
    snprintf(h, 100, "%s", name);
    snprintf(h + 100, 8, "%07o", 0644);
    snprintf(h + 108, 8, "%07o", 0);
    snprintf(h + 116, 8, "%07o", 0);
    snprintf(h + 124, 12, "%011zo", said);
    snprintf(h + 136, 12, "%011o", 0);
    memset(h + 148, ' ', 8);
    h[156] = type;
    memcpy(h + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    t->size += 512;
    memset(t->bytes + t->size, 0, (size + 511) / 512 * 512);
    memcpy(t->bytes + t->size, data, size);
    t->size += (size + 511) / 512 * 512;
}

static void put_text(tar *t, const char *name, const char *text) {
    put_member(t, name, '0', text, strlen(text), strlen(text));
}

static const char *write_tar(tar *t, const char *name) {
    memset(t->bytes + t->size, 0, 1024);
    return up_lab_file(name, t->bytes, t->size + 1024);
}

static int with_shards(void) {
    up_dataset d;
    static tar empty;
    up_status status = up_dataset_open(&(up_dataset_options){.data = write_tar(&empty, "e.tar")}, &d);
    if (status == UP_ERR_UNSUPPORTED) printf("(no shards: built without libarchive) ");
    return status != UP_ERR_UNSUPPORTED;
}

static up_dataset_options shards(const char *name) {
    return (up_dataset_options){
        .data = up_lab_path(name), .format = "webdataset", .index = up_lab_path("shards.index")};
}

static void test_shards(void) {
    static tar a, b;
    if (!with_shards()) return;
    a.size = b.size = 0;
    put_member(&a, "d/", '5', "", 0, 0);
    put_text(&a, "d/01.jpg", "first picture");
    put_text(&a, "d/01.txt", "one\n");
    put_text(&a, "d/02.json", "{\"caption\": \"two\", \"width\": 8}");
    put_text(&a, "d/02.jpg", "second");
    put_text(&a, "d/02.seg.png", "passed over");
    put_text(&b, "03.jpg", "third");
    put_text(&b, "03.cls", "7");
    write_tar(&a, "part-08.tar");
    write_tar(&b, "part-09.tar");
    const up_dataset_options options = shards("part-{08..09}.tar");
    const char *want = "key=d/01|image=d/01.jpg|text=one\nkey=d/02|caption=two|width=8|image=d/02.jpg\n"
                       "key=03|image=03.jpg|label=7\n";
    expect(&options, want); /* making the index */
    expect(&options, want); /* using it */
    up_dataset d;
    up_sample s = {0};
    up_media media;
    static const char *const bytes[] = {"first picture", "second", "third"};
    UP_ASSERT_OK(up_dataset_open(&options, &d));
    for (size_t i = 0; i < 3; i++) {
        UP_ASSERT_OK(up_dataset_sample(&d, i, &s));
        UP_ASSERT_OK(up_dataset_media(&d, &s, up_sample_value(&s, "image", 0), NULL, &media));
        CU_ASSERT(media.size == strlen(bytes[i]) && !memcmp(media.bytes, bytes[i], media.size));
        up_media_free(&media);
    }
    for (uint64_t key = 0; key < 50; key++) { /* each once, a shard's together in a permuted order */
        int seen[3] = {0};
        for (uint64_t place = 0; place < 3; place++) seen[up_dataset_order(&d, key, place)]++;
        CU_ASSERT(seen[0] == 1 && seen[1] == 1 && seen[2] == 1);
    }
    up_sample_free(&s);
    up_dataset_close(&d);
    expect_failure(&(up_dataset_options){.data = up_lab_path("part-{08..10}.tar"),
                                         .format = "webdataset",
                                         .index = up_lab_path("other.index")},
                   UP_ERR_IO, "part-10.tar", "No such file");
}

static void test_hostile_shards(void) {
    static const struct {
        const char *name, *data, *why;
        char type;
        size_t said;
    } cases[] = {
        {"/etc/01.jpg", "x", "its name leaves the shard", '0', 1},
        {"../01.jpg", "x", "its name leaves the shard", '0', 1},
        {"a/../../01.jpg", "x", "its name leaves the shard", '0', 1},
        {"01.jpg", "x", "01.jpg", '0', 1 << 20},
        {"01.txt", "x", "01.txt", '0', 1 << 19},
        {"01.json", "{\"a\": ", "no sound JSON object", '0', 6},
        {"01.json", "[1]", "no sound JSON object", '0', 3},
        {"01.txt", "a\0b", "NUL byte", '0', 3},
        {"01.jpg", "", "is no plain file", '2', 0},
    };
    if (!with_shards()) return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static tar t;
        t.size = 0;
        put_text(&t, "00.jpg", "sound");
        put_member(&t, cases[i].name, cases[i].type, cases[i].data, cases[i].said < 100 ? cases[i].said : 1,
                   cases[i].said);
        write_tar(&t, "bad.tar");
        const up_dataset_options options = shards("bad.tar");
        expect_failure(&options, UP_ERR_FORMAT, "bad.tar", cases[i].why);
    }
    up_lab_text("bad.tar", "this is no archive at all");
    const up_dataset_options options = shards("bad.tar");
    expect_failure(&options, UP_ERR_FORMAT, "bad.tar", "");
}

/* A member that is none, or a shard that ends early: the samples before and behind it can be read. */
static void test_broken_shards(void) {
    static tar t;
    up_dataset d;
    up_sample s = {0};
    if (!with_shards()) return;
    t.size = 0;
    put_text(&t, "00.txt", "sound");
    put_text(&t, "01.json", "{\"a\": ");
    put_text(&t, "02.txt", "sound");
    put_member(&t, "03.txt", '0', "x", 1, 1 << 16);
    write_tar(&t, "half.tar");
    const up_dataset_options options = shards("half.tar");
    UP_ASSERT_OK(up_dataset_open(&options, &d));
    CU_ASSERT_EQUAL_FATAL(d.count, 4);
    for (size_t i = 0; i < 4; i++) {
        up_status status = up_dataset_sample(&d, i, &s);
        CU_ASSERT_EQUAL(status, i % 2 ? UP_ERR_FORMAT : UP_OK);
        if (status == UP_OK)
            CU_ASSERT_STRING_EQUAL(up_value_text(&s, up_sample_value(&s, "text", 0)), "sound");
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "03.txt"));
    up_sample_free(&s);
    up_dataset_close(&d);
}

/* ---- the index ---- */

static void test_index(void) {
    up_dataset d;
    const char *path = up_lab_text("lines.txt", "one\ntwo\n"), *index = up_lab_path("lines.index");
    const up_dataset_options options = {.data = path, .index = index};
    struct stat before, after;
    expect(&options, "text=one\ntext=two\n");
    CU_ASSERT_EQUAL(stat(index, &before), 0);
    expect(&options, "text=one\ntext=two\n");
    CU_ASSERT(!stat(index, &after) && before.st_ino == after.st_ino); /* it was used, not made anew */
    up_lab_text("lines.txt", "one\nsix\n");                           /* as long as before */
    expect(&options, "text=one\ntext=six\n");
    up_lab_text("keys.txt", "two\n");
    up_lab_text("keyed.tsv", "key\ttext\none\ta\ntwo\tb\nten\tc\n");
    expect(&(up_dataset_options){.data = up_lab_path("keyed.tsv"), .leave_out = up_lab_path("keys.txt")},
           "key=one|text=a\nkey=ten|text=c\n");
    /* bytes of an index changed: the samples, or an error, and never a crash */
    void *bytes;
    size_t size, told = 0;
    expect(&options, "text=one\ntext=six\n");
    UP_ASSERT_OK(up_file_read(index, &bytes, &size));
    for (size_t i = 8; i < size; i += i < 64 ? 1 : 7) {
        up_sample s = {0};
        ((char *)bytes)[i] ^= 0x55;
        write_plain("lines.index", bytes, size);
        ((char *)bytes)[i] ^= 0x55;
        if (up_dataset_open(&options, &d) != UP_OK) {
            told++;
            continue;
        }
        for (size_t k = 0; k < d.count && k < 4; k++) told += up_dataset_sample(&d, k, &s) != UP_OK;
        up_sample_free(&s);
        up_dataset_close(&d);
    }
    CU_ASSERT(told < size);
    free(bytes);
    up_lab_text("lines.index", "somebody's letters\n"); /* is not overwritten */
    expect_failure(&options, UP_ERR_FORMAT, "lines.index", "is no index");
}

static void test_documents(void) {
    up_dataset d;
    const up_dataset_options options = {.data = up_lab_text("book.txt", "a\nb\n\nc\r\n\r\nd\ne")};
    static const int goes_on[] = {1, 0, 0, 1, 0};
    UP_ASSERT_OK(up_dataset_open(&options, &d));
    CU_ASSERT_EQUAL_FATAL(d.count, 5);
    for (size_t i = 0; i < 5; i++) CU_ASSERT_EQUAL(up_dataset_goes_on(&d, i), goes_on[i]);
    up_dataset_close(&d);
}

/* ---- what is no dataset ---- */

static void test_guesses(void) {
    const up_dataset_options unknown = {.data = up_lab_text("data.bin", "x")};
    expect_failure(&unknown, UP_ERR_ARGUMENT, "data.bin", "tells no format; `format` can be tsv, csv");
    const up_dataset_options wrong = {.data = up_lab_path("data.bin"), .format = "parquet"};
    expect_failure(&wrong, UP_ERR_ARGUMENT, "data.bin", "no format \"parquet\"; there are tsv, csv");
    const up_dataset_options absent = {.data = up_lab_path("absent.json")};
    expect_failure(&absent, UP_ERR_IO, "absent.json", "No such file");
}

static const struct broken {
    const char *format, *text, *why;
} broken[] = {
    {"coco", "{\"images\": [", "not sound JSON"},
    {"coco", "[]", "no list \"images\""},
    {"coco", "{\"images\": [], \"annotations\": 3}", "no list \"annotations\""},
    {"coco", "{\"images\": [], \"annotations\": []}", "no samples"},
    {"coco", "{\"images\": [{\"id\": 1}], \"annotations\": []}",
     "entry 1 of \"images\" has no text \"file_name\""},
    {"coco", "{\"images\": [], \"annotations\": [{\"image_id\": \"1\"}]}",
     "has no whole number \"image_id\""},
    {"coco", "{\"images\": [null, 3], \"annotations\": []}", "entry 1 of \"images\""},
    {"karpathy", "{\"images\": [{\"filename\": 5}]}", "has no text \"filename\""},
    {"karpathy", "{\"images\": [{\"filename\": \"a\", \"split\": \"x\", \"sentences\": [[]]}]}",
     "no text \"raw\""},
    {"karpathy", "{\"images\": [{\"filename\": \"a\", \"split\": \"x\"}]}", "no list \"sentences\""},
    {"regions", "{}", "wanted a list"},
    {"regions", "[{\"id\": 1, \"regions\": [{\"phrase\": \"a\"}]}]", "no whole number \"region_id\""},
    {"msrvtt", "{\"videos\": [{\"video_id\": \"clip1\"}], \"sentences\": []}", "no videoNUMBER"},
    {"vqa", "{\"questions\": [{\"question\": 1}]}", "no text \"question\""},
    {"kinetics", "label,youtube_id\n", "no column \"time_start\""},
    {"kinetics", "label,youtube_id,time_start,time_end\na,b,x,3\n", "line 2"},
    {"kinetics", "label,youtube_id,time_start,time_end\na,b\n", "line 2 has 2 cells"},
    {"moments", "a.mp4,b\na.mp4\n", "line 2: wanted FILE,LABEL"},
    {"flickr30k", "a.jpg#0\tx\na.jpg x\n", "line 2: wanted"},
    {"msvd", "a b\nc\n", "line 2: wanted"},
    {"imagenet", "n01440764/a 1\nplain\n", "line 2"},
    {"csv", "a,b\n1,\"2\n", "a quote is not closed"},
    {"csv", "a,b\n1,2,3\n", "line 2: list: 3 cells"},
    {"glue", "sentence\tlabel\nx\n", "line 2: list: 1 cells"},
};

static void test_broken(void) {
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        const up_dataset_options options = {.data = up_lab_text("broken.any", broken[i].text),
                                            .format = broken[i].format};
        expect_failure(&options, UP_ERR_FORMAT, "broken.any", broken[i].why);
    }
    up_dataset d;
    up_sample s = {0};
    const up_dataset_options lines = {.data = up_lab_text("bad.jsonl", "{\"a\": 1}\n\n{\"a\": \n[]\n")};
    UP_ASSERT_OK(up_dataset_open(&lines, &d));
    UP_ASSERT_OK(up_dataset_sample(&d, 0, &s));
    CU_ASSERT_EQUAL(up_dataset_sample(&d, 1, &s), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "bad.jsonl: line 3"));
    CU_ASSERT_EQUAL(up_dataset_sample(&d, 2, &s), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "bad.jsonl: line 4"));
    up_sample_free(&s);
    up_dataset_close(&d);
}

/* Each text of the table cut at every byte: it opens or it is refused, nothing else. */
static void test_truncated(void) {
    size_t opened = 0, refused = 0;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        for (size_t size = 0; size < strlen(layouts[i].text); size++) {
            up_dataset d;
            up_sample s = {0};
            const up_dataset_options options = {.data = write_plain(layouts[i].name, layouts[i].text, size),
                                                .format = layouts[i].format,
                                                .split = layouts[i].split};
            up_status status = up_dataset_open(&options, &d);
            for (size_t k = 0; status == UP_OK && k < d.count; k++) up_dataset_sample(&d, k, &s);
            opened += status == UP_OK;
            refused += status != UP_OK;
            if (status != UP_OK) CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), layouts[i].name));
            up_sample_free(&s);
            up_dataset_close(&d);
        }
    }
    CU_ASSERT(opened > 100 && refused > 100);
}

const up_test up_tests[] = {
    {"layouts", test_layouts},
    {"answers", test_answers},
    {"given columns", test_given_columns},
    {"folders", test_folders},
    {"shards", test_shards},
    {"broken shards", test_broken_shards},
    {"hostile", test_hostile_shards},
    {"index", test_index},
    {"documents", test_documents},
    {"guesses", test_guesses},
    {"broken", test_broken},
    {"truncated", test_truncated},
    {NULL, NULL},
};
