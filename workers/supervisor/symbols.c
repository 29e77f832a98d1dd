/*
 * Names for addresses, from the ELF files that were mapped: read with pread and checked, so that no file can harm the
 * supervisor.
 */
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor.h"

#define SECTIONS_LIMIT 200
#define SYMBOLS_AT_ONCE 512

static bool read_at(int file, uint64_t offset, void *data, size_t size)
{
    return offset <= INT64_MAX && pread(file, data, size, (off_t)offset) == (ssize_t)size;
}

/* The function of a symbol table that holds `address`; 0: none. */
static uint64_t symbol_search(int file, const Elf64_Shdr *table, uint64_t address, Elf64_Word *name)
{
    static Elf64_Sym symbols[SYMBOLS_AT_ONCE];
    uint64_t best = 0, count = table->sh_size / sizeof *symbols;
    for (uint64_t i = 0; i < count; i += SYMBOLS_AT_ONCE) {
        size_t some = count - i < SYMBOLS_AT_ONCE ? (size_t)(count - i) : SYMBOLS_AT_ONCE;
        if (!read_at(file, table->sh_offset + i * sizeof *symbols, symbols, some * sizeof *symbols))
            return best;
        for (size_t j = 0; j < some; j++) {
            const Elf64_Sym *symbol = &symbols[j];
            bool function = ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF;
            if (!function || address < symbol->st_value || address - symbol->st_value >= symbol->st_size)
                continue;
            best = symbol->st_value;
            *name = symbol->st_name;
        }
    }
    return best;
}

/* From the full table where there is one, else from that of exported names. */
static bool symbol_in(int file, uint64_t address, char *name, size_t size, uint64_t *start)
{
    static Elf64_Shdr sections[SECTIONS_LIMIT];
    static const Elf64_Word kinds[] = {SHT_SYMTAB, SHT_DYNSYM};
    Elf64_Ehdr header;
    if (!read_at(file, 0, &header, sizeof header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof *sections ||
        header.e_shnum == 0 || header.e_shnum > SECTIONS_LIMIT ||
        !read_at(file, header.e_shoff, sections, header.e_shnum * sizeof *sections))
        return false;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < header.e_shnum; i++) {
            Elf64_Word at = 0;
            if (sections[i].sh_type != kinds[k] || sections[i].sh_link >= header.e_shnum ||
                (*start = symbol_search(file, &sections[i], address, &at)) == 0)
                continue;
            ssize_t length = pread(file, name, size - 1, (off_t)(sections[sections[i].sh_link].sh_offset + at));
            name[length > 0 ? length : 0] = '\0';
            return name[0] != '\0';
        }
    return false;
}

void symbol_of(const struct crash_record *record, uint64_t address, char *text, size_t size)
{
    uint32_t count = record->modules < CRASH_MODULES ? record->modules : CRASH_MODULES;
    for (uint32_t i = 0; i < count; i++) {
        char path[CRASH_PATH_BYTES], name[96];
        uint64_t start = 0;
        if (address < record->module[i].low || address >= record->module[i].high)
            continue;
        memcpy(path, record->module[i].path, sizeof path);
        path[sizeof path - 1] = '\0';
        uint64_t offset = address - record->module[i].base;
        const char *slash = strrchr(path, '/');
        int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        bool named = file >= 0 && symbol_in(file, offset, name, sizeof name, &start);
        if (file >= 0)
            close(file);
        const char *module = slash ? slash + 1 : path;
        if (named)
            snprintf(text, size, "%s+0x%" PRIx64 " (%.40s+0x%" PRIx64 ")", name, offset - start, module, offset);
        else
            snprintf(text, size, "%.80s+0x%" PRIx64, module, offset);
        return;
    }
    snprintf(text, size, "0x%" PRIx64, address);
}
