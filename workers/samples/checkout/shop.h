/* The contract of the shop: for its jobs and steps, for tests, and for programs that start and signal them. */
#ifndef SHOP_H
#define SHOP_H

#include <perdure/protobuf-c.h>

#include "shop.pb-c.h"

PDR_MESSAGE(Order, shop__order)
PDR_MESSAGE(Reservation, shop__reservation)
PDR_MESSAGE(Receipt, shop__receipt)
PDR_MESSAGE(Approval, shop__approval)
PDR_MESSAGE(Shipment, shop__shipment)

PDR_JOB(checkout, Order, Shipment)

PDR_STEP(reserve, Order, Reservation)
PDR_STEP(charge, Order, Receipt, .max_attempts = 5, .timeout_ms = 2 * PDR_SECOND)
PDR_STEP(ship, Order, Shipment)
PDR_STEP(release, Reservation, pdr_none)
PDR_STEP(refund, Receipt, pdr_none)

PDR_SIGNAL(approved, Approval)

#endif
