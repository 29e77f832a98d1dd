/*
 * The checksums of all files under a directory, as `sha256sum` prints them: one step lists the tree, one step a file
 * hashes it, at most sixteen at once, and a last one writes the manifest. Kill the worker whenever you like.
 */
#include "files.h"

int manifest(pdr_job *job, const Request *request, Written *written)
{
    Listing *listing;
    PDR_TRY(pdr_await(job, list_files, request, &listing));

    size_t count = listing->n_names;
    pdr_limit *sixteen = pdr_limit_new(job, 16);
    pdr_future(hash_file) *hashing = pdr_array(job, pdr_future(hash_file), count);
    for (size_t i = 0; i < count; i++) {
        File file = pdr_init(File);
        file.directory = request->directory;
        file.name = listing->names[i];
        hashing[i] = pdr_start(job, hash_file, &file, .limit = sixteen);
    }

    Manifest list = pdr_init(Manifest);
    list.output = request->output;
    list.lines = pdr_array(job, Line *, count);
    for (size_t i = 0; i < count; i++) {
        Hash *hash;
        PDR_TRY(pdr_join(job, hash_file, hashing[i], &hash));

        Line *line = pdr_new(job, Line);
        line->name = listing->names[i];
        line->sha256 = hash->sha256;
        list.lines[list.n_lines++] = line;
        written->bytes += hash->bytes;
    }

    PDR_TRY(pdr_await(job, write_manifest, &list, NULL));
    written->path = request->output;
    written->files = count;
    return PDR_OK;
}
