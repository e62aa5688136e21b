/* module.c - finds and loads the library's modules. */
#include "files/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#ifndef UP_MODULE_LIBDIR
#define UP_MODULE_LIBDIR "lib"
#endif

typedef struct places {
    char *path[8];
    int count;
} places;

static void add_place(places *p, const char *beside, const char *folder, const char *file) {
    const char *slash = beside ? strrchr(beside, '/') : NULL;
    char *path = NULL;
    if (!slash || asprintf(&path, "%.*s/%s%s", (int)(slash - beside), beside, folder, file) < 0) return;
    p->path[p->count++] = path;
}

static void list_places(places *p, const char *file) {
    static const char *const folders[] = {"", "../", "../" UP_MODULE_LIBDIR "/uniperceiver/",
                                          "uniperceiver/"};
    char program[PATH_MAX];
    Dl_info self;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    const char *started = length > 0 ? program : (const char *)getauxval(AT_EXECFN); /* without /proc */
    int found = dladdr(&folders, &self);
    *p = (places){.count = 0};
    for (int i = 0; i < 4; i++) {
        add_place(p, found ? self.dli_fname : NULL, folders[i], file);
        add_place(p, started, folders[i], file);
    }
}

static void *open_module(const up_module *m) {
    const char *named = getenv(m->named_by);
    int how = RTLD_NOW | (m->global ? RTLD_GLOBAL : RTLD_LOCAL);
    places p;
    void *module = NULL;
    if (named) return dlopen(named, how);
    list_places(&p, m->file);
    for (int i = 0; i < p.count; i++) {
        if (!module && !access(p.path[i], R_OK)) module = dlopen(p.path[i], how);
        free(p.path[i]);
    }
    return module;
}

up_status up_module_load(const up_module *m, void **entry) {
    *entry = NULL;
    dlerror();
    void *module = open_module(m);
    const char *why = dlerror();
    if (!module && why) return up_fail(UP_ERR_UNSUPPORTED, m->what, "%s", why);
    if (!module)
        return up_fail(UP_ERR_UNSUPPORTED, m->what,
                       "%s is not there: it was not installed, or the program was built without it (%s)",
                       m->file, m->option);
    *entry = dlsym(module, m->entry);
    return *entry ? UP_OK : up_fail(UP_ERR_UNSUPPORTED, m->what, "%s has no %s", m->file, m->entry);
}

char *up_module_find(const char *file, const char *named_by) {
    const char *named = getenv(named_by);
    places p;
    char *found = NULL;
    if (named) return access(named, X_OK) ? NULL : strdup(named);
    list_places(&p, file);
    for (int i = 0; i < p.count; i++) {
        if (!found && !access(p.path[i], X_OK))
            found = p.path[i];
        else
            free(p.path[i]);
    }
    return found;
}
