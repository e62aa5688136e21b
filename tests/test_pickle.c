/* test_pickle.c - pickles as data: what Python's pickle wrote of a dictionary, calls that stay values, and
 * streams that are cut, deep, recursive or of opcodes that are not known. */
#include "files/pickle.h"
#include "tests/support.h"

#include <stdlib.h>
#include <string.h>

/* pickle.dumps({"model": OrderedDict([("w", (1, 2.5, True, None, [-2, 70000]))]), "step": 12345678901}, 2) */
static const char sound[] = "\x80\x02}q\x00(X\x05\x00\x00\x00modelq\x01"
                            "ccollections\nOrderedDict\nq\x02)Rq\x03X\x01\x00\x00\x00wq\x04(K\x01G@"
                            "\x04\x00\x00\x00\x00\x00\x00\x88N]q\x05"
                            "(J\xfe\xff\xff\xffJp\x11\x01\x00"
                            "etq\x06sX\x04\x00\x00\x00stepq\x07\x8a\x05\x35\x1c\xdc\xdf\x02u.";
static const char calls[] = "\x80\x02}X\x01\x00\x00\x00xcos\nsystem\nX\x02\x00\x00\x00ls\x85Rs.";

static up_status open_part(const void *data, size_t size, up_pickle **out) {
    return up_pickle_open("pickle", data, size, out);
}

static void test_sound(void) {
    up_pickle *p;
    UP_ASSERT_OK(open_part(sound, sizeof sound - 1, &p));
    const up_pickle_value *step = up_pickle_get(up_pickle_root(p), "step");
    const up_pickle_value *model = up_pickle_get(up_pickle_root(p), "model");
    CU_ASSERT_FATAL(step && model && !up_pickle_get(model, "x"));
    CU_ASSERT(step->kind == UP_PICKLE_INT && step->whole == 12345678901);
    const up_pickle_value *w = up_pickle_get(model, "w");
    CU_ASSERT_FATAL(w && w->kind == UP_PICKLE_LIST && w->count == 5);
    CU_ASSERT(w->items[0]->whole == 1 && w->items[1]->real == 2.5);
    CU_ASSERT(w->items[2]->kind == UP_PICKLE_BOOL && w->items[2]->whole == 1);
    CU_ASSERT(w->items[3]->kind == UP_PICKLE_NONE && w->items[4]->count == 2);
    CU_ASSERT(w->items[4]->items[0]->whole == -2 && w->items[4]->items[1]->whole == 70000);
    up_pickle_close(p);
}

/* Nothing is called: the call is a value that says what it would have been. */
static void test_call(void) {
    up_pickle *p;
    UP_ASSERT_OK(open_part(calls, sizeof calls - 1, &p));
    const up_pickle_value *x = up_pickle_get(up_pickle_root(p), "x");
    CU_ASSERT_FATAL(x && x->kind == UP_PICKLE_CALL && x->count == 2);
    CU_ASSERT(up_pickle_is(x->items[0], UP_PICKLE_GLOBAL, "os.system"));
    up_pickle_close(p);
}

static void test_cut(void) {
    for (size_t n = 0; n + 1 < sizeof sound; n++) {
        up_pickle *p;
        char *part = malloc(n + 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(part);
        memcpy(part + 1, sound, n);
        CU_ASSERT_EQUAL(open_part(part + 1, n, &p), UP_ERR_FORMAT);
        free(part);
    }
}

static void test_refused(void) {
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {{"ios\nsystem\n.", 12},
                 {"(cos\nsystem\no.", 14},
                 {"cos\nsystem\n)}\x92.", 15},
                 {"N.N", 0},
                 {"NN.", 3},
                 {"0.", 2},
                 {"(.", 2},
                 {"Nr\xff\xff\xff\xff.", 7},
                 {"h\x00.", 3},
                 {"N\x85s.", 4},
                 {"}Ns.", 4},
                 {"\x80\x06N.", 4},
                 {"NNa.", 4},
                 {"(N(Q.", 5},
                 {"e.", 2}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        up_pickle *p;
        CU_ASSERT_EQUAL(open_part(wrong[i].bytes, wrong[i].size, &p), UP_ERR_FORMAT);
    }
}

/* A list within itself is no more than it is; a deep stack ends. */
static void test_deep(void) {
    enum { DEEP = 3 << 20 };
    up_pickle *p;
    UP_ASSERT_OK(open_part("]q\x00h\x00"
                           "a.",
                           7, &p));
    CU_ASSERT(up_pickle_root(p)->items[0] == up_pickle_root(p));
    up_pickle_close(p);
    char *marks = malloc(DEEP);
    CU_ASSERT_PTR_NOT_NULL_FATAL(marks);
    memset(marks, '(', DEEP);
    CU_ASSERT_EQUAL(open_part(marks, DEEP, &p), UP_ERR_FORMAT);
    memset(marks, 'N', DEEP);
    CU_ASSERT_EQUAL(open_part(marks, DEEP, &p), UP_ERR_FORMAT);
    free(marks);
}

const char *const up_suite_name = "pickle";
const up_test up_tests[] = {{"sound", test_sound},     {"call", test_call}, {"cut", test_cut},
                            {"refused", test_refused}, {"deep", test_deep}, {NULL, NULL}};
