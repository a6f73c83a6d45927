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

/* FNV-1a and a final mix, so that neighbouring keys do not get neighbouring priorities. */
static uint64_t tree_priority(struct bytes key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ key.data[i]) * 0x100000001b3u;
    }
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
    return hash ^ (hash >> 32);
}

struct tree_row *tree_row_create(struct bytes key, struct bytes value, bool removed)
{
    CHECK(key.size <= UINT32_MAX);
    CHECK(value.size <= UINT32_MAX - 8);
    const size_t padded = (value.size + 7u) & ~(size_t)7u;
    struct tree_row *row = malloc(sizeof *row + padded + key.size);
    CHECK(row != NULL);
    row->refs = 1;
    row->key_size = (uint32_t)key.size;
    row->value_size = (uint32_t)value.size;
    row->removed = removed;
    row->born = false;
    if (value.size > 0) {
        memcpy(row->bytes, value.data, value.size);
    }
    if (key.size > 0) {
        memcpy((uint8_t *)row->bytes + padded, key.data, key.size);
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

struct tree *tree_put(struct tree *tree, struct bytes key, struct bytes value, bool removed)
{
    return tree_insert(tree, tree_row_create(key, value, removed), tree_priority(key));
}

struct tree *tree_add(struct tree *tree, struct bytes key, struct bytes value)
{
    struct tree_row *row = tree_row_create(key, value, false);
    row->born = true;
    return tree_insert(tree, row, tree_priority(key));
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

/* The key is there. */
static struct tree *tree_cut(struct tree *tree, struct bytes key)
{
    CHECK(tree != NULL);
    tree = tree_own(tree);
    const int order = bytes_compare(key, tree_row_key(tree->row));
    if (order < 0) {
        tree->left = tree_cut(tree->left, key);
        return tree;
    }
    if (order > 0) {
        tree->right = tree_cut(tree->right, key);
        return tree;
    }
    struct tree *left = tree->left;
    struct tree *right = tree->right;
    tree_row_release(tree->row);
    free(tree);
    return tree_merge(left, right);
}

struct tree *tree_remove(struct tree *tree, struct bytes key)
{
    return tree_find(tree, key) == NULL ? tree : tree_cut(tree, key);
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
