/* The sample checkout whose days last two thirds of a second, for a test of its timeout. */
#include "../../../workers/samples/checkout/shop.h"

#undef PDR_DAY
#define PDR_DAY INT64_C(667)
#include "../../../workers/samples/checkout/checkout.c"
#include "../../../workers/samples/checkout/steps.c"
