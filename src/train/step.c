/* step.c - the step: encoders, target sets, loss and optimiser put together (paper section 3.1 and equation
 * 3). */
#include "train/step.h"
#include "ref/model/arithmetic.h"

up_status up_stepper_open(const up_settings *settings, up_model *model, up_comm *comm, up_stepper *s) {
    up_status status = UP_OK;
    *s = (up_stepper){.model = model, .comm = comm, .sets = {.model = model, .training = 1}};
    up_adamw adamw = up_settings_adamw(settings);
    int64_t counts[UP_GROUP_COUNT];
    UP_GO(up_gradients_create(model, up_settings_learn(settings), &s->gradients));
    if (!up_gradients_count(s->gradients, counts))
        UP_GO(up_fail(UP_ERR_ARGUMENT, "learn", "the model has no parameter of these groups"));
    UP_GO(up_optimizer_create(s->gradients, &adamw, &s->optimizer));
    up_encoder_options keeping = {.dtype = up_settings_dtype(settings), .gradients = s->gradients};
    up_encoder_options passing = {.dtype = keeping.dtype};
    UP_GO(up_encoder_create(model, &keeping, &s->inputs));
    UP_GO(up_encoder_create(model, &keeping, &s->whole));
    UP_GO(up_encoder_create(model, &passing, &s->scout));
    UP_GO(up_criterion_create(model, s->gradients, up_optimizer_scale(s->optimizer), &s->criterion));
    UP_GO(up_features_create(model, 1, &s->x));
    s->how =
        (up_set_encoders){.whole = s->whole,
                          .chunk = s->inputs, /* free by then */
                          .scout = s->scout,
                          .tokens = (int)settings->set_tokens,
                          .whole_bytes = (size_t)settings->set_memory << 20,
                          .drop_path = settings->model.drop_path >= 0 ? settings->model.drop_path
                                                                      : up_model_config(model)->drop_path,
                          .seed = (uint64_t)settings->seed};
done:
    if (status != UP_OK) up_stepper_close(s);
    return status;
}

void up_stepper_close(up_stepper *s) {
    up_sets_free(&s->sets);
    up_features_free(&s->x);
    up_criterion_free(s->criterion);
    up_encoder_free(s->inputs);
    up_encoder_free(s->whole);
    up_encoder_free(s->scout);
    up_optimizer_free(s->optimizer);
    up_gradients_free(s->gradients);
    *s = (up_stepper){0};
}

void up_stepper_begin(up_stepper *s, int64_t step) {
    s->how.step = (uint64_t)step;
    s->reported = 0;
    for (int i = 0; i < s->sets.count; i++) s->sets.list[i].used = 0;
}

void up_stepper_divide(up_stepper *s) {
    for (int i = 0; i < s->sets.count; i++) {
        up_target_set *set = s->sets.list[i].set;
        if (up_target_set_count(set) >= s->comm->ranks) up_target_set_divide(set, s->comm);
    }
}

void up_stepper_uses(up_stepper *s, const up_target_set *set) {
    for (int i = 0; i < s->sets.count; i++)
        if (s->sets.list[i].set == set) s->sets.list[i].used = 1;
}

up_status up_stepper_encode_sets(up_stepper *s) {
    for (int i = 0; i < s->sets.count; i++) {
        const up_set_entry *e = &s->sets.list[i];
        if (e->used && up_target_set_divided(e->set)) UP_TRY(up_target_set_encode(e->set, &s->how));
    }
    return UP_OK;
}

static up_status encode(up_stepper *s, const up_batch *batch) {
    UP_TRY(up_encoder_stage_drawn(s->inputs, batch, s->how.drop_path, s->how.seed, s->how.step));
    UP_TRY(up_features_resize(&s->x, up_encoder_readouts(s->inputs)));
    UP_TRY(up_encoder_forward(s->inputs, s->x.raw));
    return up_features_normalize(&s->x);
}

/* The set that the work is compared with. Where it is filled anew, what it held goes back first. */
static up_status targets_of(up_stepper *s, up_work *work, up_target_set **out) {
    up_target_set *set = work->source->set;
    *out = set;
    if (!work->targets.sequences) return UP_OK;
    if (up_target_set_owes(set)) UP_TRY(up_target_set_backward(set, &s->how, NULL, NULL));
    return up_target_set_fill(set, &work->targets);
}

static void count_needed(up_stepper *s, const up_batch *inputs, const up_target_set *y) {
    up_arithmetic encoding = up_arithmetic_needed(s->model, inputs, s->gradients);
    up_arithmetic cosines =
        up_arithmetic_cosines(up_model_config(s->model), inputs->readouts, (double)up_target_set_count(y));
    s->needed += encoding.forward + encoding.backward + cosines.forward + cosines.backward;
}

up_status up_stepper_iterate(up_stepper *s, up_work *work, double share) {
    up_loss loss = work->loss;
    up_target_set *y;
    if (!work->batch.readouts) return UP_OK; /* nothing to predict, e.g. texts without a word */
    loss.weight *= (float)share;
    UP_TRY(targets_of(s, work, &y));
    UP_TRY(encode(s, &work->batch));
    UP_TRY(up_target_set_encode(y, &s->how));
    UP_TRY(up_criterion_compare(s->criterion, &s->x, up_target_set_features(y), &loss));
    UP_TRY(up_features_back(&s->x));
    UP_TRY(up_encoder_backward(s->inputs, s->x.draw, NULL, NULL));
    s->input_tokens += work->batch.tokens;
    count_needed(s, &work->batch, y);
    return UP_OK;
}

/* A bucket has all its gradients of this step: its sum over the ranks may begin. Alone, it is final, and its
 * norm is taken while it is in the caches; among others the step takes the norms when the sums have arrived.
 */
static up_status bucket_done(void *context, int bucket) {
    up_stepper *s = context;
    up_view gradients = up_gradients_bucket(s->gradients, bucket);
    s->reported = bucket + 1;
    if (gradients.cols) UP_TRY(s->comm->ops->allreduce(s->comm, up_model_backend(s->model), gradients));
    return s->comm->ranks == 1 ? up_optimizer_bucket_done(s->optimizer, bucket) : UP_OK;
}

/* A divided set goes back wherever any rank owes: which rank does is not known here, which could is. */
static int goes_back(const up_set_entry *e) {
    return up_target_set_divided(e->set) ? e->used : up_target_set_owes(e->set);
}

up_status up_stepper_gather(up_stepper *s) {
    const up_set_entry *last = NULL, *list = s->sets.list;
    for (int i = 0; i < s->sets.count; i++)
        if (goes_back(&list[i]) && up_target_set_own(list[i].set)) last = &list[i];
    for (int i = 0; i < s->sets.count; i++) {
        if (goes_back(&list[i])) /* the last pass of the step completes the buckets */
            UP_TRY(up_target_set_backward(list[i].set, &s->how, &list[i] == last ? bucket_done : NULL, s));
    }
    while (s->reported < up_gradients_buckets(s->gradients)) /* what no pass reached */
        UP_TRY(bucket_done(s, s->reported));
    return s->comm->ops->wait(s->comm);
}

up_status up_stepper_finish(up_stepper *s, double lr) {
    UP_TRY(up_stepper_gather(s));
    return up_optimizer_step(s->optimizer, lr);
}

int64_t up_stepper_set_tokens(const up_stepper *s) {
    int64_t tokens = 0;
    for (int i = 0; i < s->sets.count; i++) tokens += up_target_set_encoded(s->sets.list[i].set);
    return tokens;
}

double up_stepper_needed(const up_stepper *s) {
    double needed = s->needed;
    for (int i = 0; i < s->sets.count; i++) needed += up_target_set_needed(s->sets.list[i].set);
    return needed;
}
