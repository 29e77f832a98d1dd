/*
 * The steps of the shop: ordinary functions, free to block and to do I/O. A real shop would call its warehouse and its
 * bank here, and give them pdr_attempt_key(): it is the same in every attempt, so that nothing is done twice.
 */
#include <inttypes.h>
#include <string.h>

#include "shop.h"

int reserve(pdr_attempt *attempt, const Order *order, Reservation *reservation)
{
    if (strcmp(order->article, "unicorn") == 0)
        return pdr_attempt_give_up(attempt, "SoldOut", "there is no %s left", order->article);
    reservation->id = pdr_attempt_format(attempt, "reservation-%s", pdr_attempt_key(attempt));
    return PDR_OK;
}

int charge(pdr_attempt *attempt, const Order *order, Receipt *receipt)
{
    if (order->cents <= 0)
        return pdr_attempt_give_up(attempt, "BadAmount", "%" PRId64 " cents", order->cents);
    receipt->id = pdr_attempt_format(attempt, "receipt-%s", pdr_attempt_key(attempt));
    receipt->cents = order->cents;
    return PDR_OK;
}

int ship(pdr_attempt *attempt, const Order *order, Shipment *shipment)
{
    if (strcmp(order->address, "") == 0)
        return pdr_attempt_give_up(attempt, "NoAddress", "order %s has no address", order->id);
    shipment->tracking = pdr_attempt_format(attempt, "track-%s", pdr_attempt_key(attempt));
    return PDR_OK;
}

int release(pdr_attempt *attempt, const Reservation *reservation, pdr_none *out)
{
    (void)attempt, (void)reservation, (void)out; /* a real warehouse would be told */
    return PDR_OK;
}

int refund(pdr_attempt *attempt, const Receipt *receipt, pdr_none *out)
{
    (void)attempt, (void)receipt, (void)out; /* a real bank would be told */
    return PDR_OK;
}

PDR_MODULE(shop, PDR_RUNS(checkout), PDR_RUNS(reserve), PDR_RUNS(charge), PDR_RUNS(ship), PDR_RUNS(release),
           PDR_RUNS(refund));
