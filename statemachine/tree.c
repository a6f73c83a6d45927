#include "statemachine/tree.h"

#include <stdlib.h>

#include "schemas/check.h"

struct tree {
    uint32_t refs;
    uint64_t priority; /* hash of the key: never below those of the children */
    struct tree *left;
    struct tree *right;
    struct tree_row *row;
};

static uint64_t tree_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0xd6e8feb86659fd93u;
    return hash ^ (hash >> 32);
}

/* Each word is mixed, so that neighbouring keys do not get neighbouring priorities. */
static uint64_t tree_priority(struct bytes key)
{
    uint64_t hash = tree_mix(0xcbf29ce484222325u, key.size);
    size_t at = 0;
    for (; key.size - at >= 8; at += 8) {
        hash = tree_mix(hash, get_le64(key.data + at));
    }
    uint64_t last = 0;
    if (at < key.size) {
        memcpy(&last, key.data + at, key.size - at);
    }
    return tree_mix(hash, last);
}

struct tree_row *tree_row_create(struct bytes key, struct bytes value, bool removed)
{
    CHECK(key.size <= UINT32_MAX - 8);
    CHECK(value.size <= UINT32_MAX);
    const size_t padded = (key.size + 7u) & ~(size_t)7u;
    struct tree_row *row = malloc(sizeof *row + padded + value.size);
    CHECK(row != NULL);
    row->refs = 1;
    row->key_size = (uint32_t)key.size;
    row->value_size = (uint32_t)value.size;
    row->removed = removed;
    row->born = false;
    if (key.size > 0) {
        memcpy(row->bytes, key.data, key.size);
    }
    if (value.size > 0) {
        memcpy((uint8_t *)row->bytes + padded, value.data, value.size);
    }
    return row;
}

void tree_row_release(struct tree_row *row)
{
    if (row == NULL) {
        return;
    }
    CHECK(row->refs > 0);
    row->refs--;
    if (row->refs == 0) {
        free(row);
    }
}

struct tree *tree_retain(struct tree *tree)
{
    if (tree != NULL) {
        tree->refs++;
    }
    return tree;
}

void tree_release(struct tree *tree)
{
    while (tree != NULL) {
        CHECK(tree->refs > 0);
        tree->refs--;
        if (tree->refs > 0) {
            return;
        }
        struct tree *right = tree->right;
        tree_release(tree->left);
        tree_row_release(tree->row);
        free(tree);
        tree = right;
    }
}

/* The same node, held by us alone: itself, or a copy that shares children and row. */
static struct tree *tree_own(struct tree *tree)
{
    if (tree->refs == 1) {
        return tree;
    }
    struct tree *copy = malloc(sizeof *copy);
    CHECK(copy != NULL);
    *copy = *tree;
    copy->refs = 1;
    tree_retain(copy->left);
    tree_retain(copy->right);
    copy->row->refs++;
    tree->refs--;
    return copy;
}

/* `row` is taken. */
static struct tree *tree_insert(struct tree *tree, struct tree_row *row, uint64_t priority)
{
    if (tree == NULL) {
        tree = malloc(sizeof *tree);
        CHECK(tree != NULL);
        *tree = (struct tree){.refs = 1, .priority = priority, .row = row};
        return tree;
    }

    tree = tree_own(tree);
    const int order = bytes_compare(tree_row_key(row), tree_row_key(tree->row));
    if (order == 0) {
        tree_row_release(tree->row);
        tree->row = row;
    } else if (order < 0) {
        tree->left = tree_insert(tree->left, row, priority);
        if (tree->left->priority > tree->priority) { /* rotate: the left child comes up */
            struct tree *up = tree->left;
            tree->left = up->right;
            up->right = tree;
            tree = up;
        }
    } else {
        tree->right = tree_insert(tree->right, row, priority);
        if (tree->right->priority > tree->priority) {
            struct tree *up = tree->right;
            tree->right = up->left;
            up->left = tree;
            tree = up;
        }
    }
    CHECK(tree->refs == 1);
    return tree;
}

struct tree *tree_put_row(struct tree *tree, struct tree_row *row)
{
    row->refs++;
    return tree_insert(tree, row, tree_priority(tree_row_key(row)));
}

/* All rows of both; every key of `left` is below every key of `right`. Both are taken. */
static struct tree *tree_merge(struct tree *left, struct tree *right)
{
    if (left == NULL) {
        return right;
    }
    if (right == NULL) {
        return left;
    }
    if (left->priority >= right->priority) {
        left = tree_own(left);
        left->right = tree_merge(left->right, right);
        return left;
    }
    right = tree_own(right);
    right->left = tree_merge(left, right->left);
    return right;
}

struct tree *tree_remove(struct tree *tree, struct bytes key)
{
    if (tree == NULL) {
        return NULL;
    }
    tree = tree_own(tree);
    const int order = bytes_compare(key, tree_row_key(tree->row));
    if (order < 0) {
        tree->left = tree_remove(tree->left, key);
        return tree;
    }
    if (order > 0) {
        tree->right = tree_remove(tree->right, key);
        return tree;
    }
    struct tree *left = tree->left;
    struct tree *right = tree->right;
    tree_row_release(tree->row);
    free(tree);
    return tree_merge(left, right);
}

struct tree_row *tree_find(const struct tree *tree, struct bytes key)
{
    while (tree != NULL) {
        const int order = bytes_compare(key, tree_row_key(tree->row));
        if (order == 0) {
            return tree->row;
        }
        tree = order < 0 ? tree->left : tree->right;
    }
    return NULL;
}

struct tree_row *tree_seek(const struct tree *tree, struct bytes key, bool beyond)
{
    struct tree_row *found = NULL;
    while (tree != NULL) {
        const int order = bytes_compare(tree_row_key(tree->row), key);
        if (order > 0 || (order == 0 && !beyond)) {
            found = tree->row;
            tree = tree->left;
        } else {
            tree = tree->right;
        }
    }
    return found;
}

struct tree_row *tree_seek_back(const struct tree *tree, struct bytes key, bool beyond)
{
    struct tree_row *found = NULL;
    while (tree != NULL) {
        const int order = bytes_compare(tree_row_key(tree->row), key);
        if (order < 0 || (order == 0 && !beyond)) {
            found = tree->row;
            tree = tree->right;
        } else {
            tree = tree->left;
        }
    }
    return found;
}

void tree_walk(const struct tree *tree, void (*on_row)(void *context, struct tree_row *row),
               void *context)
{
    if (tree == NULL) {
        return;
    }
    tree_walk(tree->left, on_row, context);
    on_row(context, tree->row);
    tree_walk(tree->right, on_row, context);
}
