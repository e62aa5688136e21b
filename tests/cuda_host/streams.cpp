/* streams.cpp - the order of the device: streams, events, copies, launches, graphs.
 *
 * An operation is put into its stream's queue and runs as late as it can: when the host waits for it, or when
 * another one that does run has to come after it. Before each that runs, one of another stream may run too,
 * by chance (the seed says which), so that streams overtake each other in every way that events allow. Each
 * operation carries a clock: how far it is known, by its place, by events and by what the host waited for,
 * that each stream was done before it. */
#include "executor.h"

#include <deque>
#include <time.h>

struct up_node {
    unsigned branch;
    up_operation operation; /* its clock counts nodes of branches */
};
struct CUgraph_st {
    std::vector<up_node> nodes;
    unsigned branches;
};
namespace {
struct capture {
    std::unique_ptr<CUgraph_st> graph;
    std::vector<cudaStream_t> streams; /* by branch; the first one began it */
    bool invalid;
};
struct record { /* what an event stands for since it was last recorded */
    up_place place;
    up_clock clock;
    std::shared_ptr<capture> captured;
    int node;
    double time;
};
} // namespace

struct CUstream_st {
    unsigned number;
    bool blocking; /* waits for the default stream, and that one for it */
    bool alive, busy;
    uint64_t last, done; /* positions */
    std::deque<up_operation> queue;
    up_clock clock; /* of its last operation, itself counted */
    std::shared_ptr<capture> captured;
    unsigned branch;
    int last_node;
};
struct CUevent_st {
    std::shared_ptr<record> recorded; /* NULL: never */
    bool timing;
};
struct CUgraphExec_st {
    CUgraph_st graph;
    std::vector<cudaStream_t> branches; /* the first one is the stream of the launch */
};

namespace {
auto &streams = *new std::vector<cudaStream_t>; /* the first one is the default stream */
up_clock host_clock;                            /* what the host has waited for */

cudaStream_t make_stream(bool blocking) {
    for (cudaStream_t s : streams)
        if (!s->alive) {
            s->alive = true;
            s->blocking = blocking;
            return s;
        }
    streams.push_back(
        new CUstream_st{(unsigned)streams.size(), blocking, true, false, 0, 0, {}, {}, nullptr, 0, -1});
    return streams.back();
}

/* The stream that a handle names, or NULL. */
cudaStream_t stream_of(cudaStream_t handle) {
    if (streams.empty()) make_stream(false);
    if (!handle || handle == cudaStreamLegacy) return streams[0];
    for (cudaStream_t s : streams)
        if (s == handle && s->alive) return s;
    return nullptr;
}

void join(up_clock &clock, const up_clock &other) {
    if (clock.size() < other.size()) clock.resize(other.size());
    for (size_t i = 0; i < other.size(); i++)
        if (other[i] > clock[i]) clock[i] = other[i];
}
void reach(up_clock &clock, unsigned stream, uint64_t position) {
    if (clock.size() <= stream) clock.resize(stream + 1);
    if (position > clock[stream]) clock[stream] = position;
}

double now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- pinned memory that is read late ---- */
uint64_t checksum(const up_pinned &p) {
    uint64_t sum = 1;
    for (size_t r = 0; r < p.rows; r++) {
        const char *row = p.at + r * p.pitch;
        size_t i = 0;
        for (uint64_t word; i + 8 <= p.width; i += 8) {
            memcpy(&word, row + i, 8);
            sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
            sum ^= sum >> 29;
        }
        for (; i < p.width; i++) sum = (sum ^ (unsigned char)row[i]) * 0x100000001b3ull;
    }
    return sum;
}

void check_pinned(const up_operation &o) {
    if (o.source.rows && checksum(o.source) != o.source.sum)
        up_report("%s in stream %u: the host has changed the pinned memory at %p that it reads before it "
                  "ran; wait for it first",
                  up_name_of(o).c_str(), o.place.stream, (const void *)o.source.at);
}

/* ---- running ---- */
void run_until(cudaStream_t s, uint64_t position);

bool is_ready(const up_operation &o) {
    for (const up_place &p : o.after)
        if (streams[p.stream]->done < p.position) return false;
    return true;
}

void run_operation(cudaStream_t s, const up_operation &o) {
    check_pinned(o);
    up_check_operation(o);
    if (o.run) o.run();
    s->done = o.place.position;
}

/* By chance an operation that nobody waits for yet. */
void wander() {
    if (up_random() % 4) return;
    cudaStream_t s = streams[up_random() % streams.size()];
    if (s->busy || s->queue.empty() || !is_ready(s->queue.front())) return;
    const up_operation o = std::move(s->queue.front());
    s->queue.pop_front();
    run_operation(s, o);
}

void run_next(cudaStream_t s) {
    const up_operation o = std::move(s->queue.front());
    s->queue.pop_front();
    s->busy = true;
    for (const up_place &p : o.after) run_until(streams[p.stream], p.position);
    wander();
    run_operation(s, o);
    s->busy = false;
}

void run_until(cudaStream_t s, uint64_t position) {
    while (s->done < position) run_next(s);
}

/* The host waits for the stream as far as `position`, whose operation has `clock`. */
void finish(cudaStream_t s, uint64_t position, const up_clock &clock) {
    if (s->done < position) {
        const up_opened open;
        run_until(s, position);
    }
    join(host_clock, clock);
    reach(host_clock, s->number, position);
    for (const cudaStream_t other : streams)
        if (!other->queue.empty() || other->busy) return;
    up_check_idle(host_clock);
}
} // namespace

std::string up_name_of(const up_operation &operation) {
    return operation.kernel ? "kernel " + up_name_of_kernel(operation.kernel) : operation.what;
}

void up_finish_all() {
    if (streams.empty()) return;
    for (cudaStream_t s : streams) finish(s, s->last, s->clock);
}

/* ---- into a queue, or into a graph ---- */
static void come_after(up_operation &o, cudaStream_t other) {
    if (other->last == 0) return;
    o.after.push_back({other->number, other->last});
    join(o.clock, other->clock);
}

/* The default stream waits for all that blocks with it, and the other way. */
static void add_default_order(cudaStream_t s, up_operation &o) {
    if (s->number && s->blocking) come_after(o, streams[0]);
    if (s->number) return;
    for (cudaStream_t other : streams)
        if (other->number && other->blocking) come_after(o, other);
}

static cudaError_t capture_operation(cudaStream_t s, up_operation o) {
    capture &c = *s->captured;
    if (c.invalid) return cudaErrorStreamCaptureInvalidated;
    if (s->last_node >= 0) o.after_nodes.push_back(s->last_node);
    for (const int n : o.after_nodes) join(o.clock, c.graph->nodes[(size_t)n].operation.clock);
    const int number = (int)c.graph->nodes.size();
    reach(o.clock, s->branch, (uint64_t)number + 1);
    s->last_node = number;
    c.graph->nodes.push_back({s->branch, std::move(o)});
    return cudaSuccess;
}

static bool breaks_capture(cudaStream_t s) {
    if (s->number) return false;
    for (cudaStream_t other : streams)
        if (other->captured && other->blocking) return true;
    return false;
}

/* `o.clock` and `o.after`: what it comes after besides its stream. */
static cudaError_t enqueue(cudaStream_t s, up_operation o) {
    if (s->captured) return capture_operation(s, std::move(o));
    if (breaks_capture(s)) return cudaErrorStreamCaptureImplicit;
    add_default_order(s, o);
    for (const up_place &p : o.after) reach(o.clock, p.stream, p.position);
    join(o.clock, s->clock);
    join(o.clock, host_clock);
    o.place = {s->number, ++s->last};
    o.source.sum = o.source.rows ? checksum(o.source) : 0;
    s->clock = o.clock;
    reach(s->clock, s->number, s->last);
    s->queue.push_back(std::move(o));
    return cudaSuccess;
}

cudaError_t up_enqueue(cudaStream_t stream, up_operation operation) {
    cudaStream_t s = stream_of(stream);
    return s ? enqueue(s, std::move(operation)) : cudaErrorInvalidResourceHandle;
}

/* The host may not wait for what is only being recorded: that spoils the recording. */
static cudaError_t no_capture() {
    cudaError_t error = cudaSuccess;
    for (cudaStream_t s : streams)
        if (s->captured) {
            s->captured->invalid = true;
            error = cudaErrorStreamCaptureUnsupported;
        }
    return error;
}

/* ---- streams ---- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    const auto lock = up_lock();
    stream_of(nullptr);
    *stream = make_stream(flags != cudaStreamNonBlocking);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s || s->number == 0) return up_error(cudaErrorInvalidResourceHandle);
    const up_opened open;
    run_until(s, s->last);
    s->alive = false;
    s->captured = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s) return up_error(cudaErrorInvalidResourceHandle);
    if (s->captured || breaks_capture(s)) return up_error(no_capture());
    finish(s, s->last, s->clock);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    const auto lock = up_lock();
    const cudaError_t error = no_capture();
    if (error) return up_error(error);
    up_finish_all();
    return cudaSuccess;
}

/* Whether it is done; a step is taken, so that one who asks again and again comes to an end. */
static cudaError_t query(cudaStream_t s, uint64_t position, const up_clock &clock) {
    if (s->done < position) {
        const up_opened open;
        run_next(s);
        return cudaErrorNotReady;
    }
    finish(s, position, clock);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s) return up_error(cudaErrorInvalidResourceHandle);
    if (s->captured) return up_error(no_capture());
    return query(s, s->last, s->clock);
}

/* ---- events ---- */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = new CUevent_st{nullptr, !(flags & cudaEventDisableTiming)};
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const auto lock = up_lock();
    if (!event) return up_error(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s || !event) return up_error(cudaErrorInvalidResourceHandle);
    const auto r = std::make_shared<record>();
    up_operation o;
    o.what = "event";
    o.run = [r] { r->time = now(); };
    const cudaError_t error = enqueue(s, std::move(o));
    if (error) return up_error(error);
    r->place = {s->number, s->last};
    r->clock = s->clock;
    r->captured = s->captured;
    r->node = s->last_node;
    event->recorded = r;
    return cudaSuccess;
}

/* A stream that waits for an event of a capture becomes a branch of it. */
static cudaError_t join_capture(cudaStream_t s, const record &r) {
    if (s->captured && s->captured != r.captured) return cudaErrorStreamCaptureMerge;
    if (!s->captured) {
        s->captured = r.captured;
        s->branch = (unsigned)r.captured->streams.size();
        s->last_node = -1;
        r.captured->streams.push_back(s);
    }
    up_operation o;
    o.what = "wait";
    o.after_nodes.push_back(r.node);
    return enqueue(s, std::move(o));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s || !event) return up_error(cudaErrorInvalidResourceHandle);
    if (!event->recorded) return cudaSuccess;
    const record &r = *event->recorded;
    if (r.captured && r.captured->graph) return up_error(join_capture(s, r));
    if (r.captured) return up_error(cudaErrorCapturedEvent);
    if (s->captured) return up_error(no_capture()); /* an event from outside */
    up_operation o;
    o.what = "wait";
    o.after.push_back(r.place);
    o.clock = r.clock;
    return up_error(enqueue(s, std::move(o)));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const auto lock = up_lock();
    if (!event) return up_error(cudaErrorInvalidResourceHandle);
    if (!event->recorded) return cudaSuccess;
    const record &r = *event->recorded;
    if (r.captured) return up_error(cudaErrorCapturedEvent);
    finish(streams[r.place.stream], r.place.position, r.clock);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    const auto lock = up_lock();
    if (!event) return up_error(cudaErrorInvalidResourceHandle);
    if (!event->recorded) return cudaSuccess;
    const record &r = *event->recorded;
    if (r.captured) return up_error(cudaErrorCapturedEvent);
    return query(streams[r.place.stream], r.place.position, r.clock);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    const auto lock = up_lock();
    if (!from || !to || !from->recorded || !to->recorded || !from->timing || !to->timing)
        return up_error(cudaErrorInvalidResourceHandle);
    for (const auto &r : {from->recorded, to->recorded}) {
        if (r->captured) return up_error(cudaErrorCapturedEvent);
        if (streams[r->place.stream]->done < r->place.position) return cudaErrorNotReady;
    }
    *milliseconds = (float)((to->recorded->time - from->recorded->time) * 1e3);
    return cudaSuccess;
}

/* ---- copies ---- */
namespace {
struct copy {
    char *to;
    const char *from;
    size_t to_pitch, from_pitch, width, rows;
    bool to_device, from_device;
};
} // namespace

static std::string name_of_copy(const copy &c) {
    const char *const ways[] = {"within the host", "to the host", "to the device", "within the device"};
    return "the copy of " + std::to_string(c.width * c.rows) + " bytes " +
           ways[c.to_device * 2 + c.from_device];
}

static void run_copy(const copy &c) {
    for (size_t r = 0; r < c.rows; r++) {
        char *to = c.to + r * c.to_pitch;
        const char *from = c.from + r * c.from_pitch;
        if (c.from_device) up_check_range(from, c.width, UP_READ);
        if (c.to_device) up_check_range(to, c.width, UP_WRITE);
        if (c.to_device) up_check_copied(to, c.from_device ? from : nullptr, c.width);
        memmove(to, from, c.width);
    }
}

/* Bytes from the first to the last one of a pitched area. */
static size_t extent(size_t pitch, size_t width, size_t rows) {
    return (rows - 1) * pitch + width;
}

static cudaError_t judge_copy(copy &c, cudaMemcpyKind kind) {
    if (c.width > c.to_pitch || c.width > c.from_pitch) return cudaErrorInvalidValue;
    c.to_device = up_is_device(c.to);
    c.from_device = up_is_device(c.from);
    const int actual = c.to_device ? (c.from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                                   : (c.from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
    if (kind != cudaMemcpyDefault && kind != actual) return cudaErrorInvalidValue;
    if (c.to_device && !up_allocation_of(c.to, extent(c.to_pitch, c.width, c.rows)))
        return cudaErrorInvalidValue;
    if (c.from_device && !up_allocation_of(c.from, extent(c.from_pitch, c.width, c.rows)))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

/* From pageable memory a copy takes its bytes at once, from pinned memory when it runs. */
static void stage(up_operation &o, copy c, bool captured) {
    const size_t bytes = extent(c.from_pitch, c.width, c.rows);
    if (up_is_pinned(c.from, bytes)) o.source = {c.from, c.from_pitch, c.width, c.rows, 0};
    if (o.source.rows || captured) {
        o.run = [c] { run_copy(c); };
        return;
    }
    const auto kept = std::make_shared<std::vector<char>>(c.from, c.from + bytes);
    o.run = [c, kept] {
        copy own = c;
        own.from = kept->data();
        run_copy(own);
    };
}

static cudaError_t copy_async(copy c, cudaMemcpyKind kind, cudaStream_t stream) {
    cudaStream_t s = stream_of(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (c.width == 0 || c.rows == 0) return cudaSuccess;
    const cudaError_t error = judge_copy(c, kind);
    if (error) return error;
    const bool late = c.to_device || up_is_pinned(c.to, extent(c.to_pitch, c.width, c.rows));
    if (!late && s->captured) return no_capture();
    up_operation o;
    o.what = name_of_copy(c);
    o.run = [c] { run_copy(c); };
    if (!c.from_device) stage(o, c, s->captured != nullptr);
    if (late && !c.to_device && !s->captured) /* who reads it too early shall see that */
        for (size_t r = 0; r < c.rows; r++) up_poison(c.to + r * c.to_pitch, c.width);
    const cudaError_t failed = enqueue(s, std::move(o));
    if (!failed && !late) finish(s, s->last, s->clock);
    return failed;
}

static cudaError_t copy_now(copy c, cudaMemcpyKind kind) {
    cudaStream_t s = stream_of(nullptr);
    const cudaError_t captures = no_capture();
    if (captures) return captures;
    const cudaError_t error = copy_async(c, kind, nullptr);
    if (!error) finish(s, s->last, s->clock);
    return error;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const auto lock = up_lock();
    return up_error(
        copy_async({(char *)to, (const char *)from, bytes, bytes, bytes, 1, false, false}, kind, stream));
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
    const auto lock = up_lock();
    return up_error(copy_async(
        {(char *)to, (const char *)from, to_pitch, from_pitch, width, rows, false, false}, kind, stream));
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    const auto lock = up_lock();
    return up_error(copy_now({(char *)to, (const char *)from, bytes, bytes, bytes, 1, false, false}, kind));
}
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                         size_t rows, cudaMemcpyKind kind) {
    const auto lock = up_lock();
    return up_error(
        copy_now({(char *)to, (const char *)from, to_pitch, from_pitch, width, rows, false, false}, kind));
}

cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t rows,
                              cudaStream_t stream) {
    const auto lock = up_lock();
    if (width == 0 || rows == 0) return cudaSuccess;
    if (width > pitch || !up_allocation_of(to, extent(pitch, width, rows)))
        return up_error(cudaErrorInvalidValue);
    up_operation o;
    o.what = "the filling of " + std::to_string(width * rows) + " bytes";
    o.run = [=] {
        for (size_t r = 0; r < rows; r++) {
            char *row = static_cast<char *>(to) + r * pitch;
            up_check_range(row, width, UP_WRITE);
            memset(row, value, width);
        }
    };
    return up_error(up_enqueue(stream, std::move(o)));
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    return cudaMemset2DAsync(to, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset(void *to, int value, size_t bytes) {
    return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t up_cuda_host_symbol_copy(void *symbol, const void *from, size_t bytes) {
    const auto lock = up_lock();
    const cudaError_t error = no_capture();
    if (error) return up_error(error);
    up_finish_all();
    memcpy(symbol, from, bytes);
    return cudaSuccess;
}

/* ---- memory in stream order ---- */
cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t) {
    return cudaMalloc(pointer, bytes);
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) {
    const auto lock = up_lock();
    if (!pointer) return cudaSuccess;
    const up_allocation *a = up_allocation_of(pointer, 0);
    if (!a || a->at != pointer) return up_error(cudaErrorInvalidValue);
    up_operation o;
    o.what = "the release of memory";
    o.run = [pointer, bytes = a->bytes] {
        up_check_range(pointer, bytes, UP_WRITE);
        up_free_now(pointer);
    };
    return up_error(up_enqueue(stream, std::move(o)));
}

/* ---- graphs ---- */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s) return up_error(cudaErrorInvalidResourceHandle);
    if (s->number == 0) return up_error(cudaErrorStreamCaptureUnsupported);
    if (s->captured) return up_error(cudaErrorStreamCaptureUnsupported);
    s->captured = std::make_shared<capture>();
    s->captured->graph.reset(new CUgraph_st{{}, 0});
    s->captured->streams.push_back(s);
    s->branch = 0;
    s->last_node = -1;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s) return up_error(cudaErrorInvalidResourceHandle);
    *status = !s->captured           ? cudaStreamCaptureStatusNone
              : s->captured->invalid ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

/* Every branch must have come back to the first stream. */
static bool is_joined(const capture &c) {
    up_clock known;
    if (c.streams[0]->last_node >= 0) known = c.graph->nodes[(size_t)c.streams[0]->last_node].operation.clock;
    for (const cudaStream_t s : c.streams) {
        const uint64_t nodes = (uint64_t)(s->last_node + 1);
        if (nodes && (s->branch >= known.size() || known[s->branch] < nodes)) return false;
    }
    return true;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    *graph = nullptr;
    if (!s || !s->captured) return up_error(cudaErrorInvalidValue);
    const std::shared_ptr<capture> c = s->captured;
    if (c->streams[0] != s) return up_error(cudaErrorStreamCaptureUnmatched);
    const bool joined = is_joined(*c);
    for (cudaStream_t branch : c->streams) branch->captured = nullptr;
    const std::unique_ptr<CUgraph_st> made = std::move(c->graph);
    if (c->invalid) return up_error(cudaErrorStreamCaptureInvalidated);
    if (!joined) return up_error(cudaErrorStreamCaptureUnjoined);
    made->branches = (unsigned)c->streams.size();
    *graph = new CUgraph_st(*made);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph,
                                          unsigned long long) {
    const auto lock = up_lock();
    if (!executable || !graph) return up_error(cudaErrorInvalidValue);
    *executable = new CUgraphExec_st{*graph, {nullptr}};
    while ((*executable)->branches.size() < graph->branches)
        (*executable)->branches.push_back(make_stream(false));
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    const auto lock = up_lock();
    if (!executable) return up_error(cudaErrorInvalidValue);
    for (size_t b = 1; b < executable->branches.size(); b++) cudaStreamDestroy(executable->branches[b]);
    delete executable;
    return cudaSuccess;
}

/* The nodes go into streams again, branch by branch, each behind those that it came after. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    const auto lock = up_lock();
    cudaStream_t s = stream_of(stream);
    if (!s || !executable) return up_error(cudaErrorInvalidResourceHandle);
    if (s->captured) return up_error(no_capture());
    executable->branches[0] = s;
    std::vector<std::pair<up_place, up_clock>> instances;
    for (const up_node &node : executable->graph.nodes) {
        cudaStream_t branch = executable->branches[node.branch];
        up_operation o = node.operation;
        o.clock.clear();
        for (const int n : node.operation.after_nodes) {
            o.after.push_back(instances[(size_t)n].first);
            join(o.clock, instances[(size_t)n].second);
        }
        const cudaError_t error = enqueue(branch, std::move(o));
        if (error) return up_error(error);
        instances.push_back({{branch->number, branch->last}, branch->clock});
    }
    return cudaSuccess;
}
