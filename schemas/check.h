/* Claims about ourselves. A broken claim means our code is wrong, and a wrong program stops.
 *
 * CHECK stays on in production. Bytes from disk, network, devices and users are never CHECKed:
 * they are answered. One claim per CHECK, so that the line number says which one broke.
 */
#ifndef KELP_SCHEMAS_CHECK_H
#define KELP_SCHEMAS_CHECK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C"
#endif
/* Print the claim and its place to standard error and abort. Never returns. */
__attribute__((noreturn, cold)) void check_failed(const char *claim, const char *file, int line);

#define CHECK(claim)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!(claim), 0)) {                                                       \
            check_failed(#claim, __FILE__, __LINE__);                                              \
        }                                                                                          \
    } while (0)

/* An implication: if the premise holds, the conclusion must. */
#define CHECK_IF(premise, conclusion) CHECK(!(premise) || (conclusion))

/* Both are legal here, and a reader might wonder. Evaluates nothing. */
#define MAYBE(claim) ((void)sizeof(claim))

/* The struct that embeds `member`, from a pointer to that member. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
