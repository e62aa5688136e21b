/* test_null.c - every public function with nothing, less than nothing, or NULL where something is wanted: an
 * error that names the argument, or no effect; never a crash. tests/check_symbols.sh sees to it that every
 * exported function is called here. */
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/uniperceiver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "null";

/* The call is refused as the caller's mistake, and the message is there. */
#define REFUSED(call)                                                                                        \
    do {                                                                                                     \
        up_fail(UP_ERR_IO, "before", "this");                                                                \
        up_status refused_ = (call);                                                                         \
        if (refused_ != UP_ERR_ARGUMENT) fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #call);          \
        CU_ASSERT_EQUAL(refused_, UP_ERR_ARGUMENT);                                                          \
        CU_ASSERT_STRING_NOT_EQUAL(up_last_error(), "before: this");                                         \
    } while (0)
#define NOTHING(call)  CU_ASSERT_EQUAL((call), 0)
#define NO_VIEW(call)  CU_ASSERT_PTR_NULL((call).buffer)
#define NO_PLACE(call) CU_ASSERT_PTR_NULL((const void *)(call))

/* What is there, beside what is not. */
static up_backend *backend;
static up_config config;
static up_model *model;
static up_gradients *gradients;
static up_encoder *encoder;
static up_session *session;
static char *model_path;
static const up_view none = {0};

static void open_all(void) {
    UP_ASSERT_OK(up_backend_create("ref", 0, &backend));
    UP_ASSERT_OK(up_config_preset("tiny", &config));
    UP_ASSERT_OK(up_model_create(backend, &config, 1, &model));
    UP_ASSERT_OK(up_gradients_create(model, 0, &gradients));
    UP_ASSERT_OK(up_encoder_create(model, NULL, &encoder));
    model_path = strdup(up_lab_path("null.safetensors"));
    UP_ASSERT_OK(up_model_write(model, model_path));
    UP_ASSERT_OK(up_model_load(model_path, NULL, &session));
}

static void close_all(void) {
    up_session_close(session);
    up_encoder_free(encoder);
    up_gradients_free(gradients);
    up_model_destroy(model);
    up_backend_free(backend);
    up_lab_remove(model_path);
    free(model_path);
}

/* ---- small parts ---- */

static void errors(void) {
    char text[8] = "before";
    CU_ASSERT_EQUAL(up_fail(UP_ERR_IO, NULL, "%d", 1), UP_ERR_IO);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "something: 1");
    CU_ASSERT_EQUAL(up_fail(UP_ERR_IO, "file", NULL), UP_ERR_IO);
    CU_ASSERT_EQUAL(up_fail_again(UP_ERR_MEMORY, NULL), UP_ERR_MEMORY);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "out of memory");
    NOTHING(up_printable("text", 4, NULL, 8));
    NOTHING(up_printable("text", 4, text, 0));
    NOTHING(up_printable(NULL, 4, text, sizeof text));
    CU_ASSERT_STRING_EQUAL(text, "");
    CU_ASSERT_STRING_EQUAL(up_status_name((up_status)-1), "unknown status");
    CU_ASSERT_PTR_NOT_NULL(up_version());
    REFUSED(up_listen(&(up_listener){.size = 8}));
    UP_ASSERT_OK(up_listen(NULL));
}

static void random_numbers(void) {
    up_rng rng = up_rng_make(0, 0, 0, 0);
    up_philox(0, 0, 0, NULL);
    NOTHING(up_rng_u32(NULL));
    NOTHING(up_rng_below(NULL, 3));
    NOTHING(up_rng_below(&rng, 0));
    NOTHING(up_rng_uniform(NULL));
    NOTHING(up_rng_normal(NULL));
    NOTHING(up_permute(1, 0, 0));
}

static void backends_and_ranks(void) {
    up_backend *b = NULL;
    up_comm *c = NULL;
    double value = 1;
    int64_t whole = 1;
    REFUSED(up_backend_create(NULL, 0, &b));
    REFUSED(up_backend_create("ref", 0, NULL));
    REFUSED(up_backend_create("cpu", -1, &b));
    REFUSED(up_backend_ref(NULL));
    REFUSED(up_backend_cpu(0, NULL));
    REFUSED(up_backend_cpu(-1, &b));
    up_backend_free(NULL);
    NO_PLACE(b);
    CU_ASSERT_PTR_NOT_NULL(up_ref_ops());
    REFUSED(up_comm_none(NULL));
    REFUSED(up_comm_open(NULL, 0, &c));
    REFUSED(up_comm_open("none", 0, NULL));
    REFUSED(up_comm_sum(NULL, &value, 1));
    REFUSED(up_comm_max(NULL, &whole, 1));
    REFUSED(up_comm_tell(NULL, &value, sizeof value, 0));
    up_comm_free(NULL);
    UP_ASSERT_OK(up_comm_none(&c));
    REFUSED(up_comm_sum(c, NULL, 1));
    REFUSED(up_comm_sum(c, &value, -1));
    UP_ASSERT_OK(up_comm_sum(c, NULL, 0));
    REFUSED(up_comm_max(c, NULL, 1));
    REFUSED(up_comm_max(c, &whole, -1));
    REFUSED(up_comm_tell(c, NULL, 1, 0));
    REFUSED(up_comm_tell(c, &value, sizeof value, -1));
    REFUSED(up_comm_tell(c, &value, sizeof value, 1));
    up_comm_free(c);
}

static void texts(void) {
    up_tokenizer *t = NULL;
    int32_t *ids = NULL, few[4];
    char *text = NULL;
    size_t count = 0;
    REFUSED(up_tokenizer_create(NULL, NULL));
    up_tokenizer_free(NULL);
    UP_ASSERT_OK(up_tokenizer_create(NULL, &t));
    REFUSED(up_tokenize(NULL, "a", 1, &ids, &count));
    REFUSED(up_tokenize(t, NULL, 1, &ids, &count));
    REFUSED(up_tokenize(t, "a", 1, NULL, &count));
    REFUSED(up_tokenize(t, "a", 1, &ids, NULL));
    REFUSED(up_tokenize_closed(NULL, "a", 1, 4, few, &count));
    REFUSED(up_tokenize_closed(t, NULL, 1, 4, few, &count));
    REFUSED(up_tokenize_closed(t, "a", 1, 0, few, &count));
    REFUSED(up_tokenize_closed(t, "a", 1, 4, NULL, &count));
    REFUSED(up_tokenize_closed(t, "a", 1, 4, few, NULL));
    REFUSED(up_detokenize(NULL, few, 0, &text));
    REFUSED(up_detokenize(t, NULL, 1, &text));
    REFUSED(up_detokenize(t, few, 0, NULL));
    REFUSED(up_clean_text(NULL, 1, &text, &count));
    REFUSED(up_clean_text("a", 1, NULL, &count));
    REFUSED(up_clean_text("a", 1, &text, NULL));
    NOTHING(up_token_ends_word(NULL, 0));
    NOTHING(up_token_ends_word(t, -1));
    up_tokenizer_free(t);
}

/* ---- pictures and videos ---- */

static void pictures(void) {
    up_image empty = {0}, out = {0};
    uint8_t rgb[2 * 2 * 3] = {0}, bytes[12];
    up_image picture = {.width = 2, .height = 2, .data = rgb};
    float values[12];
    REFUSED(up_image_decode(NULL, 1, "a", NULL, &out));
    REFUSED(up_image_decode("a", 1, "a", NULL, NULL));
    CU_ASSERT_EQUAL(up_image_decode("", 0, NULL, NULL, &out), UP_ERR_FORMAT);
    REFUSED(up_image_read(NULL, NULL, &out));
    REFUSED(up_image_read("a.png", NULL, NULL));
    up_image_free(NULL);
    up_image_free(&empty);
    const up_image *const wrong[] = {NULL, &empty};
    for (int i = 0; i < 2; i++) {
        REFUSED(up_image_resize(wrong[i], 0, 0, 1, 1, 1, 1, &out));
        REFUSED(up_image_resize_short(wrong[i], 1, &out));
        REFUSED(up_image_crop(wrong[i], 0, 0, 1, 1, &out));
        REFUSED(up_image_square(wrong[i], 1, 1, 0, 0, &out));
        REFUSED(up_image_patch_bytes(wrong[i], 1, bytes));
        up_image_normalize(wrong[i], &up_pixel_norm_image, values);
    }
    REFUSED(up_image_resize(&picture, 0, 0, 2, 2, 1, 1, NULL));
    REFUSED(up_image_resize(&picture, 0, 0, 2, 2, -1, 1, &out));
    REFUSED(up_image_resize_short(&picture, 1, NULL));
    REFUSED(up_image_resize_short(&picture, -1, &out));
    REFUSED(up_image_crop(&picture, 0, 0, 1, 1, NULL));
    REFUSED(up_image_crop(&picture, 0, 0, -1, 1, &out));
    REFUSED(up_image_square(&picture, 1, 1, 0, 0, NULL));
    REFUSED(up_image_square(&picture, -1, -1, 0, 0, &out));
    REFUSED(up_image_patch_bytes(&picture, 0, bytes));
    REFUSED(up_image_patch_bytes(&picture, -1, bytes));
    REFUSED(up_image_patch_bytes(&picture, 1, NULL));
    up_image_normalize(&picture, NULL, values);
    up_image_normalize(&picture, &up_pixel_norm_image, NULL);
    REFUSED(up_image_patches(NULL, 2, 2, 1, values));
    REFUSED(up_image_patches(values, 2, 2, 1, NULL));
    REFUSED(up_image_patches(values, -2, 2, 1, values));
    REFUSED(up_image_patches(values, 2, 2, 0, values));
}

static void videos(void) {
    const up_video_clip clip = {.frames = 1, .stride = 1};
    up_image out;
    int64_t frames;
    (void)up_video_available();
    REFUSED(up_video_decode(NULL, 1, "a", &clip, NULL, &out));
    REFUSED(up_video_decode("a", 1, "a", NULL, NULL, &out));
    REFUSED(up_video_decode("a", 1, "a", &clip, NULL, NULL));
    REFUSED(up_video_decode("a", 1, NULL, &(up_video_clip){.frames = -1, .stride = 1}, NULL, &out));
    REFUSED(up_video_read(NULL, &clip, NULL, &out));
    REFUSED(up_video_read("a", NULL, NULL, &out));
    REFUSED(up_video_read("a", &clip, NULL, NULL));
    REFUSED(up_video_count(NULL, &frames));
    REFUSED(up_video_count("a", NULL));
}

/* ---- configurations, parameters, models ---- */

static void configurations(void) {
    up_config zero = {0};
    up_params params = {0};
    int64_t counts[UP_GROUP_COUNT];
    float levels[3 * 256], weight;
    REFUSED(up_config_preset(NULL, &zero));
    REFUSED(up_config_preset("tiny", NULL));
    CU_ASSERT_PTR_NOT_NULL(up_config_presets());
    REFUSED(up_config_check(NULL));
    REFUSED(up_config_check(&zero));
    NOTHING(up_config_cells(NULL));
    NOTHING(up_config_cells(&zero));
    CU_ASSERT_PTR_NOT_NULL(up_config_pixel_norm(NULL, 0));
    up_pixel_levels(NULL, levels);
    up_pixel_levels(&up_pixel_norm_image, NULL);
    NO_PLACE(up_config_field_named(NULL));
    CU_ASSERT_EQUAL(up_config_task(NULL, "mlm"), -1);
    CU_ASSERT_EQUAL(up_config_task(&zero, NULL), -1);
    REFUSED(up_params_build(NULL, &params));
    REFUSED(up_params_build(&config, NULL));
    up_params_free(NULL);
    CU_ASSERT_EQUAL(up_params_find(NULL, "spe"), -1);
    CU_ASSERT_EQUAL(up_params_find(&params, NULL), -1);
    up_params_count(NULL, counts);
    up_params_count(&params, NULL);
    CU_ASSERT_PTR_NOT_NULL(up_param_group_name((up_param_group)-1));
    REFUSED(up_params_init(NULL, &params, 0, &weight));
    REFUSED(up_params_init(&config, NULL, 0, &weight));
    REFUSED(up_params_init(&config, &params, 0, NULL));
}

static void models_made(void) {
    up_model *out = NULL;
    const int64_t offsets[1] = {0};
    float memory[1];
    REFUSED(up_model_create(NULL, &config, 0, &out));
    REFUSED(up_model_create(backend, NULL, 0, &out));
    REFUSED(up_model_create(backend, &config, 0, NULL));
    REFUSED(up_model_create_bare(NULL, &config, &out));
    REFUSED(up_model_create_bare(backend, NULL, &out));
    REFUSED(up_model_create_bare(backend, &config, NULL));
    REFUSED(up_model_create_over(NULL, &config, memory, 4, offsets, NULL, NULL, &out));
    REFUSED(up_model_create_over(backend, NULL, memory, 4, offsets, NULL, NULL, &out));
    REFUSED(up_model_create_over(backend, &config, NULL, 4, offsets, NULL, NULL, &out));
    REFUSED(up_model_create_over(backend, &config, memory, 4, NULL, NULL, NULL, &out));
    REFUSED(up_model_create_over(backend, &config, memory, 4, offsets, NULL, NULL, NULL));
    REFUSED(up_model_read(NULL, "a", &out));
    REFUSED(up_model_read(backend, NULL, &out));
    REFUSED(up_model_read(backend, "a", NULL));
    REFUSED(up_model_map(NULL, "a", &out));
    REFUSED(up_model_map(backend, NULL, &out));
    REFUSED(up_model_map(backend, "a", NULL));
    REFUSED(up_model_write(NULL, "a"));
    REFUSED(up_model_write(model, NULL));
    REFUSED(up_overlay_create(NULL, 0, 1, 2, 0, &out));
    REFUSED(up_overlay_create(model, 0, 1, 2, 0, NULL));
    REFUSED(up_overlay_create(model, -1, 1, 2, 0, &out));
    REFUSED(up_overlay_create(model, 0, 1, -2, 0, &out));
    REFUSED(up_overlay_read(NULL, "a", &out));
    REFUSED(up_overlay_read(model, NULL, &out));
    REFUSED(up_overlay_read(model, "a", NULL));
    up_model_destroy(NULL);
    NO_PLACE(out);
}

static void models_asked(void) {
    const char *const names[1] = {NULL};
    const int32_t id = 1;
    int count, beyond = up_model_params(model)->count;
    NO_PLACE(up_model_base(NULL));
    NOTHING(up_model_owns(NULL, 0));
    NOTHING(up_model_owns(model, -1));
    NOTHING(up_model_owns(model, beyond));
    NO_PLACE(up_model_config(NULL));
    NO_PLACE(up_model_params(NULL));
    NO_PLACE(up_model_backend(NULL));
    REFUSED(up_model_set_targets(NULL, &id, 1));
    REFUSED(up_model_set_targets(model, NULL, 1));
    REFUSED(up_model_set_targets(model, &id, -1));
    NO_PLACE(up_model_targets(NULL, &count));
    NO_PLACE(up_model_targets(model, NULL));
    REFUSED(up_model_set_classes(NULL, names, 1));
    REFUSED(up_model_set_classes(model, names, 1));
    REFUSED(up_model_set_classes(model, names, -1));
    NO_PLACE(up_model_classes(NULL, &count));
    NO_PLACE(up_model_classes(model, NULL));
    REFUSED(up_model_copy(NULL, model));
    REFUSED(up_model_copy(model, NULL));
    NO_VIEW(up_model_weight(NULL, 0));
    NO_VIEW(up_model_weight(model, -1));
    NO_VIEW(up_model_weight(model, beyond));
    NOTHING(up_model_version(NULL));
    up_model_changed(NULL);
    NOTHING(up_model_fingerprint(NULL));
    up_model_set_fingerprint(NULL, 1);
    REFUSED(up_model_want_prepared(NULL, 0, 0, 1, UP_F32, 0));
    NO_VIEW(up_model_prepared(NULL, 0, 0, 1, UP_F32));
    NO_VIEW(up_model_prepared(model, -1, 0, 1, UP_F32));
    REFUSED(up_model_prepare(NULL));
    NOTHING(up_model_prepared_bytes(NULL));
}

/* ---- batches, encoders, decoders ---- */

static void batches(void) {
    up_batch b = {0}, other = {0};
    const uint8_t patches[1] = {0};
    const float values[1] = {0};
    const int32_t ids[1] = {1};
    float drop;
    REFUSED(up_batch_begin(NULL, &config));
    REFUSED(up_batch_begin(&b, NULL));
    REFUSED(up_batch_open(NULL, UP_SIDE_INPUT, 1));
    REFUSED(up_batch_continue(NULL, UP_SIDE_INPUT, 0, 0));
    REFUSED(up_batch_text(NULL, ids, 1, 0, NULL));
    REFUSED(up_batch_image(NULL, patches, 1));
    REFUSED(up_batch_image_values(NULL, values, 1));
    REFUSED(up_batch_video(NULL, patches, 1, 1, 0));
    REFUSED(up_batch_video_values(NULL, values, 1, 1, 0));
    REFUSED(up_batch_words_and_slots(NULL, ids, 1));
    REFUSED(up_batch_close(NULL));
    REFUSED(up_batch_close(&b));
    REFUSED(up_batch_close_as(NULL, 0));
    REFUSED(up_batch_append(NULL, &b, 0, 0));
    REFUSED(up_batch_append(&b, NULL, 0, 0));
    REFUSED(up_batch_append(&b, &other, 0, -1));
    REFUSED(up_batch_append(&b, &other, -1, 0));
    REFUSED(up_batch_keep(NULL, 0));
    REFUSED(up_batch_keep(&b, 1));
    REFUSED(up_batch_keep(&b, -1));
    REFUSED(up_batch_check(NULL, &config));
    REFUSED(up_batch_check(&b, NULL));
    REFUSED(up_batch_check(&b, &config));
    up_batch_free(NULL);
    UP_ASSERT_OK(up_batch_begin(&b, &config));
    REFUSED(up_batch_continue(&b, UP_SIDE_INPUT, -1, 0));
    REFUSED(up_batch_continue(&b, UP_SIDE_INPUT, 0, -1));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 1));
    REFUSED(up_batch_text(&b, NULL, 1, 0, NULL));
    REFUSED(up_batch_text(&b, ids, -1, 0, NULL));
    REFUSED(up_batch_image(&b, NULL, up_config_cells(&config)));
    REFUSED(up_batch_image(&b, patches, -1));
    REFUSED(up_batch_image_values(&b, NULL, up_config_cells(&config)));
    REFUSED(up_batch_video(&b, NULL, 1, up_config_cells(&config), 0));
    REFUSED(up_batch_video(&b, patches, -1, up_config_cells(&config), 0));
    REFUSED(up_batch_video_values(&b, NULL, 1, up_config_cells(&config), 0));
    REFUSED(up_batch_words_and_slots(&b, NULL, 1));
    REFUSED(up_batch_words_and_slots(&b, ids, -1));
    up_drop_path(0.1, 1, 0, 0, NULL, &drop);
    up_drop_path(0.1, -1, 0, 0, &b, &drop);
    up_drop_path(0.1, 1, 0, 0, &b, NULL);
    up_batch_free(&b);
}

static void encoders(void) {
    up_encoder *out = NULL;
    up_batch b = {0};
    REFUSED(up_encoder_create(NULL, NULL, &out));
    REFUSED(up_encoder_create(model, NULL, NULL));
    up_encoder_free(NULL);
    REFUSED(up_encoder_stage(NULL, &b, NULL));
    REFUSED(up_encoder_stage(encoder, NULL, NULL));
    REFUSED(up_encoder_stage_drawn(NULL, &b, 0, 0, 0));
    REFUSED(up_encoder_stage_drawn(encoder, NULL, 0, 0, 0));
    REFUSED(up_encoder_forward(NULL, none));
    REFUSED(up_encoder_forward(encoder, none));
    REFUSED(up_encoder_backward(NULL, none, NULL, NULL));
    REFUSED(up_encoder_backward(encoder, none, NULL, NULL));
    NOTHING(up_encoder_readouts(NULL));
    NOTHING(up_encoder_tokens(NULL));
    NOTHING(up_encoder_bytes(NULL));
    NOTHING(up_encoder_token_bytes(NULL));
    NOTHING(up_encoder_pass(NULL));
    NO_PLACE(up_encoder_model(NULL));
    NO_VIEW(up_encoder_view(NULL, UP_ENCODER_EMBEDDING, 0));
    NO_VIEW(up_encoder_view(encoder, UP_ENCODER_EMBEDDING, -1));
}

static void decoders(void) {
    up_decoder *d = NULL;
    up_batch b = {0};
    const int one = 1;
    const int32_t word = 1;
    REFUSED(up_decoder_create(NULL, &d));
    REFUSED(up_decoder_create(encoder, NULL));
    up_decoder_free(NULL);
    REFUSED(up_decoder_begin(NULL, &b, 1, 1));
    REFUSED(up_decoder_step(NULL, 1, &one, &one, &word, none));
    NOTHING(up_decoder_bytes(NULL, 1, 1, 1));
    NOTHING(up_decoder_bytes(encoder, -1, 1, 1));
    UP_ASSERT_OK(up_decoder_create(encoder, &d));
    REFUSED(up_decoder_begin(d, NULL, 1, 1));
    REFUSED(up_decoder_begin(d, &b, -1, 1));
    REFUSED(up_decoder_begin(d, &b, 1, -1));
    REFUSED(up_decoder_step(d, 1, NULL, &one, &word, none));
    REFUSED(up_decoder_step(d, 1, &one, NULL, &word, none));
    REFUSED(up_decoder_step(d, 1, &one, &one, NULL, none));
    REFUSED(up_decoder_step(d, -1, &one, &one, &word, none));
    up_decoder_free(d);
}

/* ---- features, losses, sets, optimisers ---- */

static void features(void) {
    up_features f = {0};
    up_cosines *c = NULL;
    float out;
    REFUSED(up_features_create(NULL, 0, &f));
    REFUSED(up_features_create(model, 0, NULL));
    up_features_free(NULL);
    up_features *const wrong[] = {NULL, &f};
    for (int i = 0; i < 2; i++) { /* none, and one that was not made */
        REFUSED(up_features_resize(wrong[i], 1));
        REFUSED(up_features_normalize(wrong[i]));
        REFUSED(up_features_back(wrong[i]));
        REFUSED(up_features_read(wrong[i], &out));
    }
    UP_ASSERT_OK(up_features_create(model, 0, &f));
    REFUSED(up_features_resize(&f, -1));
    REFUSED(up_features_read(&f, NULL));
    up_features_free(&f);
    REFUSED(up_cosines_create(NULL, &c));
    REFUSED(up_cosines_create(backend, NULL));
    up_cosines_free(NULL);
    REFUSED(up_cosines_read(NULL, none, none, &out));
    REFUSED(up_cosines_logits(NULL, none, none, 1, &out, &out));
    UP_ASSERT_OK(up_cosines_create(backend, &c));
    REFUSED(up_cosines_read(c, none, none, NULL));
    REFUSED(up_cosines_logits(c, none, none, 1, NULL, &out));
    REFUSED(up_cosines_logits(c, none, none, 1, &out, NULL));
    up_cosines_free(c);
}

static void losses(void) {
    up_criterion *c = NULL;
    up_loss_read *r = NULL;
    up_loss_value value;
    up_features x = {0};
    const up_loss loss = {0};
    REFUSED(up_criterion_create(NULL, gradients, none, &c));
    REFUSED(up_criterion_create(model, gradients, none, NULL));
    up_criterion_free(NULL);
    REFUSED(up_criterion_compare(NULL, &x, &x, &loss));
    REFUSED(up_criterion_value(NULL, &value));
    NO_VIEW(up_criterion_rows(NULL));
    REFUSED(up_loss_read_create(NULL, &r));
    REFUSED(up_loss_read_create(model, NULL));
    up_loss_read_free(NULL);
    REFUSED(up_loss_read_end(NULL, &value));
    UP_ASSERT_OK(up_criterion_create(model, NULL, none, &c));
    UP_ASSERT_OK(up_loss_read_create(model, &r));
    REFUSED(up_criterion_compare(c, NULL, &x, &loss));
    REFUSED(up_criterion_compare(c, &x, NULL, &loss));
    REFUSED(up_criterion_compare(c, &x, &x, NULL));
    REFUSED(up_criterion_value(c, NULL));
    REFUSED(up_loss_read_begin(NULL, c));
    REFUSED(up_loss_read_begin(r, NULL));
    REFUSED(up_loss_read_end(r, NULL));
    up_loss_read_free(r);
    up_criterion_free(c);
}

static void target_sets(void) {
    up_target_set *s = NULL;
    up_batch b = {0};
    up_set_encoders how = {0};
    const int32_t id = 1;
    const int64_t starts[2] = {0, 1};
    const float raw = 0;
    REFUSED(up_target_set_create(NULL, 0, 0, &s));
    REFUSED(up_target_set_create(model, 0, 0, NULL));
    up_target_set_free(NULL);
    REFUSED(up_target_set_fill(NULL, &b));
    REFUSED(up_target_set_fill_texts(NULL, &id, starts, 1));
    REFUSED(up_target_set_fill_words(NULL, &id, 1, 2));
    NOTHING(up_target_set_count(NULL));
    NOTHING(up_target_set_tokens(NULL));
    up_target_set_divide(NULL, NULL);
    NOTHING(up_target_set_divided(NULL));
    NOTHING(up_target_set_own(NULL));
    REFUSED(up_target_set_encode(NULL, &how));
    REFUSED(up_target_set_restore(NULL, &raw));
    NO_PLACE(up_target_set_features(NULL));
    NOTHING(up_target_set_owes(NULL));
    REFUSED(up_target_set_backward(NULL, &how, NULL, NULL));
    NOTHING(up_target_set_encoded(NULL));
    NOTHING(up_target_set_needed(NULL));
    UP_ASSERT_OK(up_target_set_create(model, 0, 0, &s));
    REFUSED(up_target_set_fill(s, NULL));
    REFUSED(up_target_set_fill(s, &b));
    REFUSED(up_target_set_fill_texts(s, NULL, starts, 1));
    REFUSED(up_target_set_fill_texts(s, &id, NULL, 1));
    REFUSED(up_target_set_fill_texts(s, &id, starts, -1));
    REFUSED(up_target_set_fill_words(s, NULL, 1, 2));
    REFUSED(up_target_set_fill_words(s, &id, -1, 2));
    REFUSED(up_target_set_encode(s, NULL));
    REFUSED(up_target_set_encode(s, &how));
    REFUSED(up_target_set_restore(s, NULL));
    REFUSED(up_target_set_backward(s, NULL, NULL, NULL));
    up_target_set_free(s);
}

static void optimizers(void) {
    up_gradients *g = NULL;
    up_optimizer *o = NULL;
    up_step_value value;
    up_optimizer_state state = {0};
    const up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    int64_t counts[UP_GROUP_COUNT];
    int known, beyond = up_model_params(model)->count;
    REFUSED(up_gradients_create(NULL, 0, &g));
    REFUSED(up_gradients_create(model, 0, NULL));
    up_gradients_free(NULL);
    NO_VIEW(up_gradient(NULL, 0));
    NO_VIEW(up_gradient(gradients, -1));
    NO_VIEW(up_gradient(gradients, beyond));
    NOTHING(up_learns(NULL, 0));
    NOTHING(up_learns(gradients, -1));
    NOTHING(up_learns(gradients, beyond));
    NO_VIEW(up_gradients_all(NULL));
    NOTHING(up_gradients_count(NULL, counts));
    NOTHING(up_gradients_count(gradients, NULL));
    CU_ASSERT_EQUAL(up_gradients_place(NULL, 0), -1);
    NOTHING(up_gradients_buckets(NULL));
    NO_VIEW(up_gradients_bucket(NULL, 0));
    NO_VIEW(up_gradients_bucket(gradients, -1));
    NOTHING(up_gradients_lowest(NULL));
    NO_PLACE(up_gradients_model(NULL));
    REFUSED(up_optimizer_create(NULL, &adamw, &o));
    REFUSED(up_optimizer_create(gradients, NULL, &o));
    REFUSED(up_optimizer_create(gradients, &adamw, NULL));
    up_optimizer_free(NULL);
    NO_VIEW(up_optimizer_scale(NULL));
    REFUSED(up_optimizer_bucket_done(NULL, 0));
    REFUSED(up_optimizer_step(NULL, 1e-3));
    REFUSED(up_optimizer_value(NULL, 0, &value, &known));
    NO_VIEW(up_optimizer_moments(NULL, 1));
    NO_VIEW(up_optimizer_moment(NULL, 1, 0));
    REFUSED(up_optimizer_get(NULL, &state));
    REFUSED(up_optimizer_set(NULL, &state));
    NOTHING(up_optimizer_count(NULL, counts));
    UP_ASSERT_OK(up_optimizer_create(gradients, &adamw, &o));
    REFUSED(up_optimizer_bucket_done(o, -1));
    REFUSED(up_optimizer_value(o, 0, NULL, &known));
    REFUSED(up_optimizer_value(o, 0, &value, NULL));
    NO_VIEW(up_optimizer_moments(o, -1));
    NO_VIEW(up_optimizer_moment(o, -1, 0));
    REFUSED(up_optimizer_get(o, NULL));
    REFUSED(up_optimizer_set(o, NULL));
    up_optimizer_free(o);
}

static void training(void) {
    const char *const nothing[1] = {NULL};
    REFUSED(up_train(NULL, NULL, 0, NULL));
    REFUSED(up_train(up_lab_config(), NULL, 1, NULL));
    REFUSED(up_train(up_lab_config(), nothing, 1, NULL));
    REFUSED(up_evaluate(NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(up_evaluate(up_lab_config(), NULL, 1, NULL, NULL, NULL));
    REFUSED(up_evaluate(up_lab_config(), nothing, 1, NULL, NULL, NULL));
    REFUSED(up_evaluate_results(NULL, NULL, 0, NULL, NULL, &(up_results){0}));
    REFUSED(up_evaluate_results(up_lab_config(), NULL, 1, NULL, NULL, &(up_results){0}));
    REFUSED(up_evaluate_results(up_lab_config(), NULL, 0, NULL, NULL, NULL));
    up_results_free(NULL);
}

/* ---- sessions ---- */

static const up_part word = {.kind = UP_PART_TEXT, .data = "cat", .size = 3};
static const up_input right = {.parts = &word, .count = 1};

static void sessions(void) {
    up_session *s = NULL;
    up_target_set *words = NULL;
    const int32_t id = 1;
    REFUSED(up_model_load(NULL, NULL, &s));
    REFUSED(up_model_load(model_path, NULL, NULL));
    REFUSED(up_model_load(model_path, &(up_load_options){.threads = -1}, &s));
    REFUSED(up_session_add_tuned(NULL, "a", &s));
    REFUSED(up_session_add_tuned(session, NULL, &s));
    REFUSED(up_session_add_tuned(session, "a", NULL));
    up_session_close(NULL);
    NO_PLACE(up_session_model(NULL));
    NO_PLACE(up_session_tokenizer(NULL));
    NOTHING(up_session_width(NULL));
    up_session_tokens(NULL, NULL, NULL);
    up_session_tokens(session, NULL, NULL);
    REFUSED(up_session_words(NULL, &id, 1, &words));
    REFUSED(up_session_words(session, &id, -1, &words));
    REFUSED(up_session_words(session, &id, 1, NULL));
    NO_PLACE(s);
}

static void inputs(void) {
    const up_part empty = {.kind = UP_PART_TEXT, .size = 3}, odd = {.kind = (up_part_kind)-1};
    const up_part ids = {.kind = UP_PART_IDS, .size = 3}, pixels = {.kind = UP_PART_PIXELS, .size = 3};
    const up_part clip = {.kind = UP_PART_PIXELS, .data = "", .frames = -1};
    const up_part image = {.kind = UP_PART_IMAGE, .size = 3}, video = {.kind = UP_PART_VIDEO, .size = 3};
    const up_input wrong[] = {{NULL, 1, 0},    {&word, -1, 0}, {&empty, 1, 0}, {&odd, 1, 0},  {&ids, 1, 0},
                              {&pixels, 1, 0}, {&clip, 1, 0},  {&image, 1, 0}, {&video, 1, 0}};
    float *out = malloc((size_t)up_session_width(session) * sizeof *out);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        REFUSED(up_encode(session, &wrong[i], 1, UP_SIDE_INPUT, out));
    REFUSED(up_encode(NULL, &right, 1, UP_SIDE_INPUT, out));
    REFUSED(up_encode(session, NULL, 1, UP_SIDE_INPUT, out));
    REFUSED(up_encode(session, &right, -1, UP_SIDE_INPUT, out));
    REFUSED(up_encode(session, &right, 1, (up_side)-1, out));
    REFUSED(up_encode(session, &right, 1, UP_SIDE_INPUT, NULL));
    UP_ASSERT_OK(up_encode(session, NULL, 0, UP_SIDE_INPUT, NULL));
    UP_ASSERT_OK(up_encode(session, &(up_input){0}, 1, UP_SIDE_INPUT, out)); /* <SPE> alone */
    free(out);
}

static void candidates(void) {
    const char *const labels[] = {"cat", "dog"}, *const holes[] = {"cat", NULL};
    up_candidates *c = NULL;
    float p[2], feature = 0;
    REFUSED(up_candidates_create(NULL, &right, 1, &c));
    REFUSED(up_candidates_create(session, NULL, 1, &c));
    REFUSED(up_candidates_create(session, &right, 0, &c));
    REFUSED(up_candidates_create(session, &right, -1, &c));
    REFUSED(up_candidates_create(session, &right, 1, NULL));
    REFUSED(up_candidates_create_texts(NULL, labels, 2, &c));
    REFUSED(up_candidates_create_texts(session, NULL, 2, &c));
    REFUSED(up_candidates_create_texts(session, holes, 2, &c));
    REFUSED(up_candidates_create_texts(session, labels, -2, &c));
    REFUSED(up_candidates_create_texts(session, labels, 2, NULL));
    REFUSED(up_candidates_create_features(NULL, &feature, 1, &c));
    REFUSED(up_candidates_create_features(session, NULL, 1, &c));
    REFUSED(up_candidates_create_features(session, &feature, -1, &c));
    REFUSED(up_candidates_create_features(session, &feature, 1, NULL));
    up_candidates_free(NULL);
    NOTHING(up_candidates_count(NULL));
    REFUSED(up_candidates_use_head(NULL, 1));
    REFUSED(up_candidates_compare(NULL, NULL, &right, 1, p));
    REFUSED(up_compare_requests(NULL, 1));
    REFUSED(up_compare_requests(&(up_request){.input = right, .probabilities = p}, 1));
    REFUSED(up_compare_requests(&(up_request){.input = right, .probabilities = p}, -1));
    UP_ASSERT_OK(up_candidates_create_texts(session, labels, 2, &c));
    REFUSED(up_candidates_compare(c, NULL, NULL, 1, p));
    REFUSED(up_candidates_compare(c, NULL, &right, -1, p));
    REFUSED(up_candidates_compare(c, NULL, &right, 1, NULL));
    REFUSED(up_compare_requests(&(up_request){.candidates = c, .input = right}, 1));
    up_candidates_free(c);
    REFUSED(up_compare(NULL, NULL, &right, &right, 1, p));
    REFUSED(up_compare(session, NULL, NULL, &right, 1, p));
    REFUSED(up_compare(session, NULL, &right, NULL, 1, p));
    REFUSED(up_compare(session, NULL, &right, &right, -1, p));
    REFUSED(up_compare(session, NULL, &right, &right, 1, NULL));
    REFUSED(up_classify(NULL, &right, labels, 2, p));
    REFUSED(up_classify(session, NULL, labels, 2, p));
    REFUSED(up_classify(session, &right, NULL, 2, p));
    REFUSED(up_classify(session, &right, labels, -2, p));
    REFUSED(up_classify(session, &right, labels, 2, NULL));
}

/* Options of a caller that was compiled with an older or a newer version. */
static void options_of_other_versions(void) {
    struct {
        up_load_options known;
        size_t later;
    } newer = {.known.size = sizeof newer};
    up_session *s = NULL;
    up_caption out;
    REFUSED(up_model_load(model_path, &(up_load_options){.size = 8}, &s));
    REFUSED(up_caption_input(session, &right, &(up_caption_options){.size = 8}, &out));
    REFUSED(up_train(up_lab_config(), NULL, 0, &(up_train_options){.size = 8}));
    REFUSED(up_evaluate(up_lab_config(), NULL, 0, &(up_train_options){.size = 8}, NULL, NULL));
    newer.known.backend = "ref";
    UP_ASSERT_OK(up_model_load(model_path, &newer.known, &s));
    up_session_close(s);
    newer.later = 1;
    CU_ASSERT_EQUAL(up_model_load(model_path, &newer.known, &s), UP_ERR_UNSUPPORTED);
    UP_ASSERT_OK(up_model_load(model_path, &(up_load_options){.size = sizeof(up_load_options)}, &s));
    up_session_close(s);
}

static void captions(void) {
    up_caption out;
    const int32_t id = 1;
    const up_caption_options wrong[] = {{.beam = -1},
                                        {.max_words = -1},
                                        {.min_words = -1},
                                        {.length_penalty = -1},
                                        {.vocabulary = &id, .vocabulary_count = -1},
                                        {.vocabulary = &id}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        REFUSED(up_caption_input(session, &right, &wrong[i], &out));
    REFUSED(up_caption_input(NULL, &right, NULL, &out));
    REFUSED(up_caption_input(session, NULL, NULL, &out));
    REFUSED(up_caption_input(session, &right, NULL, NULL));
    REFUSED(up_caption_inputs(NULL, &right, 1, NULL, &out));
    REFUSED(up_caption_inputs(session, NULL, 1, NULL, &out));
    REFUSED(up_caption_inputs(session, &right, -1, NULL, &out));
    REFUSED(up_caption_inputs(session, &right, 1, NULL, NULL));
    up_caption_free(NULL);
}

/* Each group with all that is there. */
static void in_company(void (*group)(void)) {
    open_all();
    group();
    close_all();
}
#define IN_COMPANY(name)                                                                                     \
    static void name##_here(void) {                                                                          \
        in_company(name);                                                                                    \
    }
IN_COMPANY(configurations)
IN_COMPANY(models_made)
IN_COMPANY(models_asked)
IN_COMPANY(batches)
IN_COMPANY(encoders)
IN_COMPANY(decoders)
IN_COMPANY(features)
IN_COMPANY(losses)
IN_COMPANY(target_sets)
IN_COMPANY(optimizers)
IN_COMPANY(sessions)
IN_COMPANY(inputs)
IN_COMPANY(candidates)
IN_COMPANY(options_of_other_versions)
IN_COMPANY(captions)

const up_test up_tests[] = {
    {"errors", errors},
    {"random numbers", random_numbers},
    {"backends and ranks", backends_and_ranks},
    {"texts", texts},
    {"pictures", pictures},
    {"videos", videos},
    {"configurations", configurations_here},
    {"models made", models_made_here},
    {"models asked", models_asked_here},
    {"batches", batches_here},
    {"encoders", encoders_here},
    {"decoders", decoders_here},
    {"features", features_here},
    {"losses", losses_here},
    {"target sets", target_sets_here},
    {"optimizers", optimizers_here},
    {"training", training},
    {"sessions", sessions_here},
    {"inputs", inputs_here},
    {"candidates", candidates_here},
    {"options of other versions", options_of_other_versions_here},
    {"captions", captions_here},
    {NULL, NULL},
};
