/* The contract of `files/manifest`. */
#ifndef FILES_H
#define FILES_H

#include <perdure/protobuf-c.h>

#include "files.pb-c.h"

PDR_MESSAGE(Request, files__request)
PDR_MESSAGE(Listing, files__listing)
PDR_MESSAGE(File, files__file)
PDR_MESSAGE(Hash, files__hash)
PDR_MESSAGE(Line, files__line)
PDR_MESSAGE(Manifest, files__manifest)
PDR_MESSAGE(Written, files__written)

PDR_JOB(manifest, Request, Written)

PDR_STEP(list_files, Request, Listing, .max_attempts = 3)
PDR_STEP(hash_file, File, Hash, .max_attempts = 3)
PDR_STEP(write_manifest, Manifest, pdr_none, .max_attempts = 3)

#endif
