/*
 * riscv64: adjustors.
 *
 * archAdjustorEntry's frame is an ArchFrame; the return address is its last word:
 *
 *              | the caller's stack args |  frame->stack
 *     CFA  ->  +-------------------------+
 *              | return address          |  frame->stackWords
 *              | padding                 |  frame->floatsUsed
 *              | results                 |
 *              | fa0-fa7                 |  frame->floats
 *     sp   ->  | a0-a7                   |  frame->integers
 *              +-------------------------+
 */
#include "asm.h"

/* Not callable: where adjustors go on.
 * In: t1 = the record, everything else as the adjustor's caller left it. Out: a0 and fa0, one of them the result.
 * Clobbers: what a call clobbers. Stack: above at the handler's call; as it was on return. */
FUNC archAdjustorEntry
        PUSH_FRAME ADJUSTOR_CFA
        sd      ra, FRAME_STACK_WORDS(sp)
        .cfi_offset ra, FRAME_STACK_WORDS - ADJUSTOR_CFA
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7
        sd      a\i, FRAME_INTEGERS + \i * WORD(sp)
        .endr
        ld      t2, ADJUSTOR_LAYOUT(t1)
        lbu     t2, LAYOUT_FLOATS(t2)
        beqz    t2, .Lcall
        .irp i, 0, 1, 2, 3, 4, 5, 6, 7
        fsd     fa\i, FRAME_FLOATS + \i * WORD(sp)
        .endr
.Lcall:
        mv      a0, t1
        mv      a1, sp
        lla     t1, archAdjustorHandler
        ld      t1, 0(t1)
        jalr    t1                              /* handler(record, frame) */
        ld      a0, FRAME_INTEGER_RESULT(sp)
        fld     fa0, FRAME_FLOAT_RESULT(sp)
        ld      ra, FRAME_STACK_WORDS(sp)
        .cfi_restore ra
        POP_FRAME ADJUSTOR_CFA
        ret
END archAdjustorEntry

/* void (*archAdjustorHandler)(ArchAdjustor *record, ArchFrame *frame) */
        .bss
        .balign WORD
        .globl  archAdjustorHandler
        .hidden archAdjustorHandler
        .type   archAdjustorHandler, @object
        .size   archAdjustorHandler, WORD
archAdjustorHandler:
        .zero   WORD

/* The template. Entry i stands at i * ADJUSTOR_STEP and loads the address of record i, which lies behind the head, which lies behind the code. The last
 * step's place holds the jump out. Executed in copies only, where the data is. So distances are numbers, and nothing is left to the linker, which would
 * otherwise look for shorter instructions. A distance is two parts, of which the lower is signed. */
#define UPPER_PART(distance) (((distance) + (1 << (LOWER_BITS - 1))) >> LOWER_BITS)
#define LOWER_PART(distance) ((distance) - (UPPER_PART(distance) << LOWER_BITS))
#define LOWER_BITS 12 /* of an immediate */
#define TO_RECORD(entry) (ADJUSTOR_CODE_BYTES + ADJUSTOR_HEAD_BYTES + (entry) * (ADJUSTOR_RECORD_BYTES - ADJUSTOR_STEP))
#define TO_HEAD (ADJUSTOR_CODE_BYTES - ADJUSTOR_COUNT * ADJUSTOR_STEP + ADJUSTOR_HEAD_ENTRY)

        .section .text.archAdjustorTemplate, "ax", @progbits
        .option norvc
        .option norelax
        .balign ADJUSTOR_CODE_BYTES
        .globl  archAdjustorTemplate
        .hidden archAdjustorTemplate
        .type   archAdjustorTemplate, @object
        .size   archAdjustorTemplate, ADJUSTOR_CODE_BYTES
archAdjustorTemplate:
        .set    entry, 0
        .rept   ADJUSTOR_COUNT
        auipc   t1, UPPER_PART(TO_RECORD(entry))
        addi    t1, t1, LOWER_PART(TO_RECORD(entry))
        j       .Lout
        .balign ADJUSTOR_STEP, 0
        .set    entry, entry + 1
        .endr
.Lout:
        auipc   t2, UPPER_PART(TO_HEAD)
        ld      t2, LOWER_PART(TO_HEAD)(t2)
        jr      t2
        .balign ADJUSTOR_CODE_BYTES, 0

END_FILE
