/* Between the sources of the codec: the arena, and how tables are built and read. FlatBuffers is seen in
 * codec*.cc only, and so is this.
 */
#ifndef KELP_SCHEMAS_CODEC_INSIDE_H
#define KELP_SCHEMAS_CODEC_INSIDE_H

#include "schemas/codec.h"

#include <cstdlib>
#include <cstring>

#include "schemas/check.h"
#include "schemas/record_generated.h"

namespace fb = kelp::fb;
using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using flatbuffers::String;
using flatbuffers::Vector;

/* -- the arena ---------------------------------------------------------------------------------- */

/* Chunks are kept across resets: a steady workload allocates nothing. A reset frees what one
 * unusually large round needed beyond the first chunk. */
struct chunk {
    chunk *next;
    size_t size;
    size_t used;
};

constexpr size_t CHUNK_BYTES = 4096 - sizeof(chunk);

inline size_t up8(size_t size)
{
    return (size + 7) & ~size_t{7};
}

struct codec {
    FlatBufferBuilder builder{1024};
    chunk *chunks = nullptr; /* newest first; the last one is the first that was made */

    uint8_t *claim(size_t size)
    {
        size = up8(size == 0 ? 1 : size);
        if (chunks == nullptr || chunks->size - chunks->used < size) {
            const size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
            auto *fresh = static_cast<chunk *>(malloc(sizeof(chunk) + room));
            CHECK(fresh != nullptr);
            fresh->next = chunks;
            fresh->size = room;
            fresh->used = 0;
            chunks = fresh;
        }
        uint8_t *place = reinterpret_cast<uint8_t *>(chunks + 1) + chunks->used;
        chunks->used += size;
        return place;
    }

    template <typename T> T *array(size_t count)
    {
        auto *items = reinterpret_cast<T *>(claim(count * sizeof(T)));
        if (count > 0) {
            memset(static_cast<void *>(items), 0, count * sizeof(T));
        }
        return items;
    }

    void forget(bool all)
    {
        while (chunks != nullptr && (all || chunks->next != nullptr)) {
            chunk *next = chunks->next;
            free(chunks);
            chunks = next;
        }
        if (chunks != nullptr) {
            if (chunks->size > CHUNK_BYTES) { /* do not keep the memory of one giant */
                free(chunks);
                chunks = nullptr;
            } else {
                chunks->used = 0;
            }
        }
    }
};

static_assert(sizeof(chunk) % 8 == 0, "what the arena lends is 8-byte aligned");

/* -- helpers of build --------------------------------------------------------------------------- */

using Text = Offset<String>;
using Blob = Offset<Vector<uint8_t>>;

/* Absent, and not an empty string, for empty text: smaller, and one encoding of one content. */
inline Text text(FlatBufferBuilder &b, const char *from)
{
    return from == nullptr || from[0] == 0 ? Text{} : b.CreateString(from);
}

inline Blob blob(FlatBufferBuilder &b, struct bytes from)
{
    if (from.size == 0) {
        return Blob{};
    }
    b.ForceVectorAlignment(from.size, 1, 8);
    return b.CreateVector(from.data, from.size);
}

inline Blob plain_blob(FlatBufferBuilder &b, struct bytes from)
{
    return from.size == 0 ? Blob{} : b.CreateVector(from.data, from.size);
}

inline fb::Tag tag_of(struct tag tag)
{
    return fb::Tag(tag.low, tag.high);
}

/* Items are built first, because FlatBuffers does not nest; their offsets wait in the arena. */
template <typename Table, typename Item, typename Make>
Offset<Vector<Offset<Table>>> list(struct codec *c, const Item *items, uint32_t count, Make make)
{
    if (count == 0) {
        return {};
    }
    auto *offsets = c->array<Offset<Table>>(count);
    for (uint32_t i = 0; i < count; i++) {
        offsets[i] = make(items[i]);
    }
    return c->builder.CreateVector(offsets, count);
}

inline Offset<Vector<Text>> texts(struct codec *c, const char *const *items, uint32_t count)
{
    if (count == 0) {
        return {};
    }
    auto *offsets = c->array<Text>(count);
    for (uint32_t i = 0; i < count; i++) {
        offsets[i] = c->builder.CreateString(items[i] == nullptr ? "" : items[i]);
    }
    return c->builder.CreateVector(offsets, count);
}

inline Offset<Vector<Offset<fb::Pair>>> pairs(struct codec *c, const struct pair *items,
                                              uint32_t count)
{
    return list<fb::Pair>(c, items, count, [c](const struct pair &p) {
        const auto key = text(c->builder, p.key);
        const auto value = text(c->builder, p.value);
        return fb::CreatePair(c->builder, key, value);
    });
}

inline Offset<Vector<Offset<fb::Condition>>>
conditions(struct codec *c, const struct condition *items, uint32_t count)
{
    return list<fb::Condition>(c, items, count, [c](const struct condition &i) {
        auto &b = c->builder;
        const auto type = text(b, i.type);
        const auto reason = text(b, i.reason);
        const auto message = text(b, i.message);
        return fb::CreateCondition(b, type, i.status, reason, message, i.transition_ms);
    });
}

inline Offset<Vector<Offset<fb::Sequenced>>>
sequences(struct codec *c, const struct sequenced *items, uint32_t count)
{
    return list<fb::Sequenced>(c, items, count, [c](const struct sequenced &i) {
        const auto record = blob(c->builder, i.record);
        return fb::CreateSequenced(c->builder, i.sequence, record);
    });
}

/* Copy the finished buffer into the arena and leave the builder empty for the next one. */
template <typename Table> int finish(struct codec *c, Offset<Table> root, struct bytes *out)
{
    c->builder.Finish(root);
    const size_t size = c->builder.GetSize();
    if (size <= LIMIT_FRAME_BYTES) {
        *out = codec_copy(c, bytes_of(c->builder.GetBufferPointer(), size));
    }
    c->builder.Clear();
    return size <= LIMIT_FRAME_BYTES ? STATUS_OK : STATUS_TOO_LARGE;
}

/* -- helpers of read ---------------------------------------------------------------------------- */

/* The verified root, or NULL with the reason in *status. */
template <typename Table> const Table *root_of(struct bytes from, int *status)
{
    CHECK(reinterpret_cast<uintptr_t>(from.data) % 8 == 0);
    if (from.size > LIMIT_FRAME_BYTES) {
        *status = STATUS_TOO_LARGE;
        return nullptr;
    }
    /* Depth and tables are bounded against bytes that unfold into far more work than they are. */
    flatbuffers::Verifier verifier(from.data, from.size, 16, 1u << 20);
    if (from.size < 8 || !verifier.VerifyBuffer<Table>(nullptr)) {
        *status = STATUS_MALFORMED;
        return nullptr;
    }
    *status = STATUS_OK;
    return flatbuffers::GetRoot<Table>(from.data);
}

/* Fills structs; remembers whether anything was not as it must be. */
struct reader {
    struct codec *c;
    size_t left; /* of the bytes that are read: parts that share bytes would add up to more, and a
                    few megabytes would unfold into terabytes of work */
    bool good = true;

    bool take(size_t size)
    {
        good = good && size <= left;
        left -= good ? size : 0;
        return good;
    }

    const char *text(const String *from)
    {
        if (from == nullptr) {
            return "";
        }
        if (!take(from->size())) {
            return "";
        }
        if (memchr(from->Data(), 0, from->size()) != nullptr) {
            good = false;
            return "";
        }
        return from->c_str();
    }

    struct bytes blob(const Vector<uint8_t> *from)
    {
        return from == nullptr || !take(from->size()) ? bytes_of(nullptr, 0)
                                                      : bytes_of(from->Data(), from->size());
    }

    /* Bodies and records inside others are read in place, so their alignment is part of the form. */
    struct bytes aligned(const Vector<uint8_t> *from)
    {
        const struct bytes found = blob(from);
        good = good && reinterpret_cast<uintptr_t>(found.data) % 8 == 0;
        return found;
    }

    uint8_t choice(uint8_t value, uint8_t last)
    {
        good = good && value <= last;
        return value;
    }

    template <typename Item, typename Source, typename Fill>
    const Item *list(const Source *from, uint32_t *count, uint32_t most, Fill fill)
    {
        *count = from == nullptr ? 0 : from->size();
        if (*count > most) {
            good = false;
            *count = 0;
        }
        auto *items = c->array<Item>(*count);
        for (uint32_t i = 0; i < *count; i++) {
            fill(from->Get(i), &items[i]);
        }
        return items;
    }

    const char *const *texts(const Vector<Text> *from, uint32_t *count)
    {
        return list<const char *>(from, count, LIMIT_FRAME_BYTES / 8,
                                  [this](const String *s, const char **out) { *out = text(s); });
    }

    const struct pair *pairs(const Vector<Offset<fb::Pair>> *from, uint32_t *count)
    {
        return list<struct pair>(from, count, LIMIT_FRAME_BYTES / 8,
                                 [this](const fb::Pair *p, struct pair *out) {
                                     out->key = text(p->key());
                                     out->value = text(p->value());
                                 });
    }

    const struct condition *conditions(const Vector<Offset<fb::Condition>> *from, uint32_t *count)
    {
        return list<struct condition>(from, count, LIMIT_FRAME_BYTES / 8,
                                      [this](const fb::Condition *f, struct condition *out) {
                                          out->type = text(f->type());
                                          out->status = choice(f->status(), CONDITION_FALSE);
                                          out->reason = text(f->reason());
                                          out->message = text(f->message());
                                          out->transition_ms = f->transition_ms();
                                      });
    }

    const struct sequenced *sequences(const Vector<Offset<fb::Sequenced>> *from, uint32_t *count)
    {
        return list<struct sequenced>(from, count, LIMIT_BATCH_RECORDS,
                                      [this](const fb::Sequenced *f, struct sequenced *out) {
                                          out->sequence = f->sequence();
                                          out->record = aligned(f->record());
                                      });
    }

    /* The verifier does not ask for the alignment of numbers in a vector; reading them does. */
    const uint64_t *numbers(const Vector<uint64_t> *from, uint32_t *count, uint32_t most)
    {
        *count = from == nullptr ? 0 : from->size();
        if (*count > most ||
            (*count > 0 && reinterpret_cast<uintptr_t>(from->Data()) % sizeof(uint64_t) != 0)) {
            good = false;
            *count = 0;
        }
        auto *items = c->array<uint64_t>(*count);
        if (*count > 0) {
            memcpy(items, from->Data(), *count * sizeof(uint64_t));
        }
        return items;
    }

    struct tag tag(const fb::Tag *from)
    {
        struct tag found = {};
        if (from != nullptr) {
            found.low = from->low();
            found.high = from->high();
        }
        return found;
    }
};

/* Each read is: verify, fill a local, and only a good one reaches the caller. */
#define READ(noun, Table, ...)                                                                     \
    int codec_##noun##_read(struct codec *c, struct bytes from, struct noun *out)                  \
    {                                                                                              \
        int status;                                                                                \
        const fb::Table *t = root_of<fb::Table>(from, &status);                                    \
        if (t == nullptr) {                                                                        \
            return status;                                                                         \
        }                                                                                          \
        reader r{c, from.size};                                                                    \
        struct noun v = {};                                                                        \
        __VA_ARGS__ if (!r.good)                                                                   \
        {                                                                                          \
            return STATUS_MALFORMED;                                                               \
        }                                                                                          \
        *out = v;                                                                                  \
        return STATUS_OK;                                                                          \
    }

/* Each build is: make the children, then finish with the table made of them. */
#define BUILD(noun, ...)                                                                           \
    int codec_##noun##_build(struct codec *c, const struct noun *v, struct bytes *out)             \
    {                                                                                              \
        auto &b = c->builder;                                                                      \
        (void)b;                                                                                   \
        __VA_ARGS__                                                                                \
    }

/* Part of an Object's table: codec_device.cc. NULL and back when the object is no Device. */
Offset<fb::DeviceWish> device_wish_of(struct codec *c, const struct device_wish *v);
const struct device_wish *device_wish_fill(reader &r, const fb::DeviceWish *t);

#endif
