/*
 * An order: reserve, charge, wait for somebody's approval, ship. Whatever goes wrong after a step that took something,
 * the compensations give it back, the last first.
 */
#include "shop.h"

int checkout(pdr_job *job, const Order *order, Shipment *shipment)
{
    Reservation *reservation;
    Receipt *receipt;
    Approval *approval;
    Shipment *shipped;

    PDR_TRY(pdr_await(job, reserve, order, &reservation));
    pdr_compensate(job, release, reservation);

    PDR_TRY(pdr_await(job, charge, order, &receipt, .label = order->id));
    pdr_compensate(job, refund, receipt);

    PDR_TRY(pdr_receive(job, approved, &approval, .timeout_ms = 3 * PDR_DAY));
    if (!approval->ok)
        return pdr_fail(job, "Rejected", "%s said no", approval->by);

    PDR_TRY(pdr_await(job, ship, order, &shipped));
    *shipment = *shipped;
    return PDR_OK;
}
