/*
 * Build ids, as the linker leaves them in a note of every loaded object.
 */
#include "job/build_id.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

struct search {
    uintptr_t address;
    char *text;
    size_t size;
    bool found;
};

static bool build_id_holds(const struct dl_phdr_info *info, uintptr_t address)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && address >= start && address - start < segment->p_memsz)
            return true;
    }
    return false;
}

static void build_id_print(struct search *search, const unsigned char *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < count && at + 3 <= search->size; i++) {
        search->text[at++] = digits[bytes[i] >> 4];
        search->text[at++] = digits[bytes[i] & 15];
    }
    search->text[at] = '\0';
    search->found = at > 0;
}

static void build_id_read_notes(struct search *search, const unsigned char *notes, size_t size, size_t alignment)
{
    size_t at = 0;
    while (at + sizeof(ElfW(Nhdr)) <= size) {
        ElfW(Nhdr) note;
        memcpy(&note, notes + at, sizeof(note));
        size_t name = at + sizeof(note);
        size_t value = (name + note.n_namesz + alignment - 1) / alignment * alignment;
        if (value + note.n_descsz > size)
            return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0) {
            build_id_print(search, notes + value, note.n_descsz);
            return;
        }
        at = (value + note.n_descsz + alignment - 1) / alignment * alignment;
    }
}

static int build_id_visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct search *search = data;
    if (!build_id_holds(info, search->address))
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum && !search->found; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_NOTE)
            build_id_read_notes(search, (const unsigned char *)(info->dlpi_addr + segment->p_vaddr), segment->p_memsz,
                                segment->p_align == 8 ? 8 : 4);
    }
    return 1;
}

bool build_id_of(const void *address, char *text, size_t size)
{
    struct search search = {.address = (uintptr_t)address, .text = text, .size = size};
    dl_iterate_phdr(build_id_visit, &search);
    return search.found;
}
