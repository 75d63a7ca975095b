"""The messages of the 53C1030 that are not SCSI: what the controller is, its start, its port, its events.

Each handler takes a request frame and gives the reply, for a doorbell handshake and for the request queue alike.
Not modelled: a firmware image to upload or download, target mode, RAID.
Source: Fusion-MPT Message Passing Interface specification, "IOC Messages".
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof

from hw.scsi.lsilogic_spec import (
    BLOCK_SIZE,
    CHAIN_DEPTH,
    CREDITS,
    EVENT_CHANGE,
    EVENT_FLAGS_INTERNAL,
    FIFO_DEPTH,
    FIRMWARE_VERSION,
    FRAME_BYTES,
    HOST_ID,
    MAX_BUSES,
    MAX_DEVICES,
    MESSAGE_VERSION,
    PORT_SCSI,
    PRODUCT_SCSI_1030,
    PROTOCOL_INITIATOR,
    EventReply,
    Function,
    FwUploadReply,
    IocFactsReply,
    IocInit,
    IocState,
    IocStatus,
    PortFactsReply,
    ReplyHeader,
    RequestHeader,
)


class IocStateFields(LittleEndianStructure):
    """What messages set: the state machine's place, and what the driver said of itself."""

    _fields_ = [
        ("ioc_state", c_uint8), ("who_init", c_uint8), ("max_devices", c_uint8), ("max_buses", c_uint8),
        ("reply_frame_bytes", c_uint16), ("fault", c_uint16), ("host_mfa_high", c_uint32), ("sense_high", c_uint32),
        ("event_state", c_uint8), ("reserved", c_uint8 * 3),
    ]  # fmt: skip


assert sizeof(IocStateFields) == 20


def default_reply(frame: bytes, status: IocStatus = IocStatus.SUCCESS) -> ReplyHeader:
    """The reply that says no more than how it went."""
    request = RequestHeader.from_buffer_copy(frame)
    return ReplyHeader(
        specific_0=request.specific_0, length=sizeof(ReplyHeader) // 4, function=request.function,
        specific_4=request.specific_4, specific_5=request.specific_5, specific_6=request.specific_6,
        flags=request.flags, context=request.context, ioc_status=status,
    )  # fmt: skip


def refuse(frame: bytes, status: IocStatus) -> bytes:
    return bytes(default_reply(frame, status))


def ioc_init(ioc: IocStateFields, frame: bytes) -> bytes:
    """From here on the request queue is served."""
    request = IocInit.from_buffer_copy(frame)
    if ioc.ioc_state not in (IocState.READY, IocState.OPERATIONAL):
        return refuse(frame, IocStatus.INVALID_STATE)
    if not request.who_init:
        return refuse(frame, IocStatus.INVALID_FIELD)
    ioc.ioc_state = IocState.OPERATIONAL
    ioc.who_init = request.who_init & 7
    ioc.max_devices, ioc.max_buses = request.max_devices, request.max_buses
    ioc.reply_frame_bytes = request.reply_frame_size
    ioc.host_mfa_high, ioc.sense_high = request.host_mfa_high, request.sense_buffer_high
    return bytes(default_reply(frame))


def ioc_facts(ioc: IocStateFields, frame: bytes) -> bytes:
    request = RequestHeader.from_buffer_copy(frame)
    return bytes(
        IocFactsReply(
            message_version=MESSAGE_VERSION, length=sizeof(IocFactsReply) // 4, function=Function.IOC_FACTS,
            context=request.context, max_chain_depth=CHAIN_DEPTH, who_init=ioc.who_init, block_size=BLOCK_SIZE,
            reply_queue_depth=FIFO_DEPTH - 1, request_frame_dwords=FRAME_BYTES // 4, product_id=PRODUCT_SCSI_1030,
            host_mfa_high=ioc.host_mfa_high, global_credits=CREDITS, ports=1, event_state=ioc.event_state,
            sense_buffer_high=ioc.sense_high, reply_frame_size=ioc.reply_frame_bytes, max_devices=MAX_DEVICES,
            max_buses=MAX_BUSES, firmware_version=FIRMWARE_VERSION,
        )
    )  # fmt: skip


def port_facts(ioc: IocStateFields, frame: bytes) -> bytes:
    """A port that is not there has type 0."""
    request = RequestHeader.from_buffer_copy(frame)
    reply = PortFactsReply(
        length=sizeof(PortFactsReply) // 4, function=Function.PORT_FACTS, context=request.context,
        port_number=request.specific_6,
    )  # fmt: skip
    if request.specific_6 == 0:
        reply.port_type, reply.max_devices = PORT_SCSI, MAX_DEVICES
        reply.port_scsi_id, reply.protocol_flags = HOST_ID, PROTOCOL_INITIATOR
    return bytes(reply)


def port_enable(ioc: IocStateFields, frame: bytes) -> bytes:
    request = RequestHeader.from_buffer_copy(frame)
    if ioc.ioc_state != IocState.OPERATIONAL:
        return refuse(frame, IocStatus.INVALID_STATE)
    return bytes(default_reply(frame, IocStatus.INVALID_FIELD if request.specific_6 else IocStatus.SUCCESS))


def event_notification(ioc: IocStateFields, frame: bytes) -> bytes:
    """Switched on or off. No other event ever comes: nothing happens on the bus but what the host does."""
    request = RequestHeader.from_buffer_copy(frame)
    if ioc.ioc_state != IocState.OPERATIONAL:
        return refuse(frame, IocStatus.INVALID_STATE)
    ioc.event_state = request.specific_0 & 1
    return bytes(
        EventReply(
            data_length=1, length=sizeof(EventReply) // 4, function=Function.EVENT_NOTIFICATION,
            flags=EVENT_FLAGS_INTERNAL, context=request.context, event=EVENT_CHANGE, data=ioc.event_state,
        )
    )  # fmt: skip


def acknowledge(ioc: IocStateFields, frame: bytes) -> bytes:
    return bytes(default_reply(frame))


def fw_upload(ioc: IocStateFields, frame: bytes) -> bytes:
    """There is no image: it has no bytes."""
    header = default_reply(frame)
    header.length = sizeof(FwUploadReply) // 4
    return bytes(FwUploadReply(header=header))


Handler = Callable[[IocStateFields, bytes], bytes]
HANDLERS: dict[int, Handler] = {
    Function.IOC_INIT:           ioc_init,
    Function.IOC_FACTS:          ioc_facts,
    Function.PORT_FACTS:         port_facts,
    Function.PORT_ENABLE:        port_enable,
    Function.EVENT_NOTIFICATION: event_notification,
    Function.EVENT_ACK:          acknowledge,
    Function.FW_DOWNLOAD:        acknowledge,
    Function.FW_UPLOAD:          fw_upload,
}  # fmt: skip
