/* The build of `route` that takes another path. */
#define ROUTE_SECOND polish
#include "../route_a/route.c"
