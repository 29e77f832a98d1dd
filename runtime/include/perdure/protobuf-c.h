/*
 * protobuf-c messages for Perdure. Only this header knows protobuf-c; perdure.h does not need it.
 */
#ifndef PERDURE_PROTOBUF_C_H
#define PERDURE_PROTOBUF_C_H

#if defined __GNUC__ && !defined PDR_HEADER_WARNINGS
#pragma GCC system_header /* errors point at the line of the user, not into our macros */
#endif

#include <perdure/perdure.h>

#include <protobuf-c/protobuf-c.h>

#ifdef __cplusplus
#include <type_traits>
#define PDR_POINTEE_(p) std::remove_pointer<decltype(p)>::type
#else
#define PDR_POINTEE_(p) __typeof__(*p)
#endif

PDR_C_ PDR_API const pdr_codec pdr_codec_protobuf_c;

/*
 * PDR_MESSAGE(Order, shop__order): "Order" is the C name from here on; shop__order is the stem of the functions that
 * protoc-c wrote for message `shop.Order` (shop__order__init, ...). Top-level messages only, and none that contains
 * itself. With `option (pb_c_file).const_strings = true` in the .proto, string literals may be assigned.
 */
#define PDR_MESSAGE(T, stem)                                                                                         \
    typedef PDR_POINTEE_(stem##__unpack(NULL, 0, NULL)) T;                                                           \
    PDR_INLINE_ T pdr_init_##T(void)                                                                                 \
    {                                                                                                                \
        T message;                                                                                                   \
        stem##__init(&message);                                                                                      \
        return message;                                                                                              \
    }                                                                                                                \
    static const pdr_type pdr_type_##T PDR_UNUSED = { sizeof(pdr_type), sizeof(T), #T, &pdr_codec_protobuf_c,        \
                                                      &stem##__descriptor };
#endif
