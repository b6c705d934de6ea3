#ifndef CORE_BASE_VERSION_H
#define CORE_BASE_VERSION_H
/* The version of both programs, also written into exported files. */
#define LINNET_VERSION "0.1.0"
#endif
