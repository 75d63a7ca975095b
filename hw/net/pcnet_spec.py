"""AMD Am79C970A PCnet-PCI II: registers, initialization blocks and descriptors; no behaviour.

Names and numbers are the data sheet's: CSR and BCR numbers are decimal. Lengths are bytes, addresses guest physical.
The PCI identity is that of VMware machines, whose I/O range is 128 bytes: the chip's 32 and a paravirtual part.
Source: AMD Am79C970A data sheet (publication 19436), "User Accessible Registers", "Initialization Block", "Receive
Descriptors", "Transmit Descriptors".
"""

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum, IntFlag
from typing import NamedTuple

from ringfence.pci_header import CONFIG_BYTES, Bar, IoBar, MemBar, PciIds, Pin, RomBar, header
from ringfence.registers import Reg, RegBank

IDS = PciIds(0x1022, 0x2000, 0x020000, revision=0x10, subsystem_vendor=0x1022, subsystem=0x2000)
IO_BAR, MEMORY_BAR = IoBar(0, 128), MemBar(1, 32)
ROM_BYTES_MIN = 64 << 10
MASTER_ABORT = 1 << 13  # PCI status: RMABORT


def bars(rom_bytes: int) -> tuple[Bar, ...]:
    """With a window for an expansion ROM of so many bytes."""
    size = ROM_BYTES_MIN
    while size < rom_bytes:
        size *= 2
    return IO_BAR, MEMORY_BAR, RomBar(size, direct=False)


def config_bank(rom_bytes: int) -> RegBank:
    return RegBank(
        "pcnet", CONFIG_BYTES,
        *header(IDS, bars(rom_bytes), pin=Pin.INTA, command_rw=0x0147, status=0x0280, latency_rw=0xFF),
        Reg(0x3E, "MIN_GNT", 1, 0x06), Reg(0x3F, "MAX_LAT", 1, 0xFF),
    )  # fmt: skip


# the window of 32 bytes

APROM_BYTES = 16


class Window(IntEnum):
    """From 10h on, two bytes apart in word I/O, as after a reset, and four in double word I/O (BCR18.DWIO)."""

    RDP = 0
    RAP = 1
    RESET = 2
    BDP = 3


WINDOW_BYTES = 32
RAP_BITS = 0x7F


class Aprom(LittleEndianStructure):
    """The address PROM. `checksum` is the sum of bytes 0-Bh, Eh and Fh."""

    _pack_ = 1
    _fields_ = [
        ("address", c_uint8 * 6), ("reserved", c_uint8 * 3), ("hardware_id", c_uint8), ("reserved_2", c_uint8 * 2),
        ("checksum", c_uint16), ("signature", c_uint8 * 2),
    ]  # fmt: skip


assert sizeof(Aprom) == APROM_BYTES
HARDWARE_ID, SIGNATURE = 0x11, b"WW"


# control and status registers


class Csr0(IntFlag):
    """Controller status and control."""

    INIT = 1 << 0
    STRT = 1 << 1
    STOP = 1 << 2
    TDMD = 1 << 3
    TXON = 1 << 4
    RXON = 1 << 5
    IENA = 1 << 6
    INTR = 1 << 7
    IDON = 1 << 8
    TINT = 1 << 9
    RINT = 1 << 10
    MERR = 1 << 11
    MISS = 1 << 12
    CERR = 1 << 13
    BABL = 1 << 14
    ERR = 1 << 15


class Csr3(IntFlag):
    """Interrupt masks, which lie where CSR0 has their causes, and deferral control."""

    EMBA = 1 << 3
    DXMT2PD = 1 << 4
    LAPPEN = 1 << 5
    DXSUFLO = 1 << 6
    IDONM = 1 << 8
    TINTM = 1 << 9
    RINTM = 1 << 10
    MERRM = 1 << 11
    MISSM = 1 << 12
    BABLM = 1 << 14


class Csr4(IntFlag):
    """Test and features control. A mask bit (M) lies below its cause."""

    JABM = 1 << 0
    JAB = 1 << 1
    TXSTRTM = 1 << 2
    TXSTRT = 1 << 3
    RCVCCOM = 1 << 4
    RCVCCO = 1 << 5
    UINT = 1 << 6
    UINTCMD = 1 << 7
    MFCOM = 1 << 8
    MFCO = 1 << 9
    ASTRP_RCV = 1 << 10
    APAD_XMT = 1 << 11
    DPOLL = 1 << 12
    TIMER = 1 << 13
    DMAPLUS = 1 << 14
    ENTST = 1 << 15


class Csr5(IntFlag):
    """Extended control and interrupt. An enable bit (E) lies below its cause."""

    SPND = 1 << 0
    MPMODE = 1 << 1
    MPEN = 1 << 2
    MPINTE = 1 << 3
    MPINT = 1 << 4
    MPPLBA = 1 << 5
    EXDINTE = 1 << 6
    EXDINT = 1 << 7
    SLPINTE = 1 << 8
    SLPINT = 1 << 9
    SINTE = 1 << 10
    SINT = 1 << 11
    LTINTEN = 1 << 14
    TOKINTD = 1 << 15


class Mode(IntFlag):
    """CSR15, and the first word of an initialization block."""

    DRX = 1 << 0
    DTX = 1 << 1
    LOOP = 1 << 2
    DXMTFCS = 1 << 3
    FCOLL = 1 << 4
    DRTY = 1 << 5
    INTL = 1 << 6
    MENDECL = 1 << 10
    DAPC = 1 << 11
    DLNKTST = 1 << 12
    DRCVPA = 1 << 13
    DRCVBC = 1 << 14
    PROM = 1 << 15


INTERRUPTS_0 = int(Csr0.IDON | Csr0.TINT | Csr0.RINT | Csr0.MERR | Csr0.MISS | Csr0.BABL)
INTERRUPT_MASKS_4 = int(Csr4.JABM | Csr4.TXSTRTM | Csr4.RCVCCOM | Csr4.MFCOM)
INTERRUPT_ENABLES_5 = int(Csr5.MPINTE | Csr5.EXDINTE)
SYSTEM_ENABLES_5 = int(Csr5.SLPINTE | Csr5.SINTE)  # these interrupt whatever IENA says
ERRORS_0 = int(Csr0.BABL | Csr0.CERR | Csr0.MISS | Csr0.MERR)
STOP_CLEARS_4 = int(Csr4.JAB | Csr4.UINT | Csr4.UINTCMD | Csr4.MFCO)
STOP_CLEARS_5 = int(Csr5.SPND | Csr5.MPINT)
SOFT_RESET_KEEPS_15 = 0x21C4


class Csr(IntEnum):
    """Those that the controller itself looks at or sets. A double word is named by its lower half."""

    STATUS = 0
    IADR = 1
    INTERRUPT_MASK = 3
    FEATURES = 4
    EXTENDED = 5
    RING_LENGTHS = 6
    LADRF = 8
    PADR = 12
    MODE = 15
    BADR = 24
    NRDA = 26
    CRDA = 28
    BADX = 30
    NXDA = 32
    CXDA = 34
    CRBC = 40
    CRST = 41
    CXBC = 42
    CXST = 43
    SWSTYLE = 58
    RCVRC = 72
    XMTRC = 74
    RCVRL = 76
    XMTRL = 78
    CHIP_ID = 88
    MISSED_FRAMES = 112


CSRS, BCRS = 128, 128
LADRF_WORDS, PADR_WORDS = 4, 3
WHOLE = 0xFFFF


def _csr(number: int, name: str, reset: int = 0, rw: int = 0, w1c: int = 0, w1s: int = 0, on_write: str = "") -> Reg:
    return Reg(2 * number, name, 2, reset, rw, w1c, w1s, on_write)


def _rows(first: int, *names: str, reset: int = 0, rw: int = WHOLE) -> tuple[Reg, ...]:
    return tuple(_csr(first + index, name, reset, rw) for index, name in enumerate(names))


CSR = RegBank(
    "csr", 2 * CSRS,
    _csr(0, "STATUS", int(Csr0.STOP), int(Csr0.IENA), 0x7F00, 0x000F),
    *_rows(1, "IADRL", "IADRH"),
    _csr(3, "INTERRUPT_MASK", 0, WHOLE),
    _csr(4, "FEATURES", 0x0115, 0xFD95, 0x026A, on_write="features_written"),
    _csr(5, "EXTENDED", 0, 0xF56F, 0x0A90, on_write="extended_written"),
    _csr(6, "RING_LENGTHS"),
    *_rows(8, "LADRF0", "LADRF1", "LADRF2", "LADRF3", "PADR0", "PADR1", "PADR2", "MODE"),
    *_rows(18, "CRBAL", "CRBAU", "CXBAL", "CXBAU", "NRBAL", "NRBAU", "BADRL", "BADRU", "NRDAL", "NRDAU", "CRDAL",
           "CRDAU", "BADXL", "BADXU", "NXDAL", "NXDAU", "CXDAL", "CXDAU", "NNRDL", "NNRDU", "NNXDL", "NNXDU", "CRBC",
           "CRST", "CXBC", "CXST", "NRBC", "NRST", "POLL", "POLLINT"),
    *_rows(60, "PXDAL", "PXDAU", "PXBC", "PXST", "NXBAL", "NXBAU", "NXBC", "NXST", rw=0),
    _csr(72, "RCVRC", 1, WHOLE), _csr(74, "XMTRC", 1, WHOLE), _csr(76, "RCVRL", 1, WHOLE), _csr(78, "XMTRL", 1, WHOLE),
    _csr(80, "DMA_COUNT", 0x1410, WHOLE), _csr(82, "DMA_TIMER", 0, WHOLE),
    *_rows(84, "DMABAL", "DMABAU", rw=0),
    _csr(88, "CHIP_LOW", 0x1003), _csr(89, "CHIP_HIGH", 0x0262),
    _csr(92, "RCON"), _csr(94, "XMTTDR"),
    _csr(100, "BUS_TIMEOUT", 0x0200, WHOLE), _csr(103, "TEST_103", 0x0105),
    _csr(112, "MISSED_FRAMES", 0, WHOLE), _csr(114, "COLLISIONS"),
    _csr(122, "ADVANCED", 0, 0x0001), _csr(124, "TEST_1", 0, WHOLE),
)  # fmt: skip

# Written while the controller runs, these keep what they have.
STOPPED_ONLY = frozenset({1, 2, *range(8, 16), *range(18, 48), 72, 74, 76, 78, 112})
ALIASES = {16: 1, 17: 2}
# Which of them decide what is received.
FILTERS = frozenset(range(8, 16))


# bus configuration registers


class Bcr(IntEnum):
    """Those that the controller looks at."""

    MISC = 2
    LED_0 = 4
    LED_3 = 7
    DUPLEX = 9
    BUS = 18
    SWSTYLE = 20


class Led(IntFlag):
    """BCR4 to BCR7: what lights a lamp. Bit 15 says whether it is lit."""

    COLE = 1 << 0
    JABE = 1 << 1
    RCVE = 1 << 2
    RXPOLE = 1 << 3
    XMTE = 1 << 4
    RCVME = 1 << 5
    LNKSTE = 1 << 6
    PSE = 1 << 7
    FDLSE = 1 << 8
    LEDOUT = 1 << 15


APROM_WRITE = 1 << 8  # BCR2
FDEN = 1 << 0  # BCR9
DWIO = 1 << 7  # BCR18
BCR = RegBank(
    "bcr", 2 * BCRS,
    _csr(0, "MSRDA", 0x0005), _csr(1, "MSWRA", 0x0005),
    _csr(2, "MC", 0x0002, WHOLE),
    _csr(4, "LNKST", 0x00C0, 0x7FFF), _csr(5, "LED1", 0x0084, 0x7FFF), _csr(6, "LED2", 0x0088, 0x7FFF),
    _csr(7, "LED3", 0x0090, 0x7FFF),
    _csr(9, "FDC", 0, WHOLE),
    _csr(16, "IOBASEL"), _csr(17, "IOBASEU"),
    _csr(18, "BSBC", 0x9001, WHOLE & ~DWIO),
    _csr(19, "EECAS", 0x0002, WHOLE),
    _csr(20, "SWS", 0x0200, 0x00FF, on_write="style_written"),
    _csr(21, "INTCON", 0, WHOLE),
    _csr(22, "PCILAT", 0xFF06, WHOLE),
)  # fmt: skip
SSIZE32, CSRPCNET = 1 << 8, 1 << 9  # BCR20
STYLE_BITS = {0: CSRPCNET, 1: SSIZE32, 2: SSIZE32 | CSRPCNET, 3: SSIZE32 | CSRPCNET}


# initialization blocks


class InitBlock16(LittleEndianStructure):
    """With 16-bit structures: bits 31:29 of a ring's word are the logarithm of its length, 23:0 its address."""

    _pack_ = 1
    _fields_ = [
        ("mode", c_uint16), ("padr", c_uint16 * PADR_WORDS), ("ladrf", c_uint16 * LADRF_WORDS), ("rdra", c_uint32),
        ("tdra", c_uint32),
    ]  # fmt: skip


class InitBlock32(LittleEndianStructure):
    """With 32-bit structures: bits 7:4 of a length byte are the logarithm."""

    _pack_ = 1
    _fields_ = [
        ("mode", c_uint16), ("rlen", c_uint8), ("tlen", c_uint8), ("padr", c_uint16 * PADR_WORDS),
        ("reserved", c_uint16), ("ladrf", c_uint16 * LADRF_WORDS), ("rdra", c_uint32), ("tdra", c_uint32),
    ]  # fmt: skip


assert sizeof(InitBlock16) == 24 and sizeof(InitBlock32) == 28
ADDRESS_24 = 0xFFFFFF
RING_LOG_MAX, RING_LOG_16_SHIFT, RING_LOG_32_SHIFT = 9, 29, 4


# descriptors


class Tmd(IntFlag):
    """Status of a transmit descriptor: TMD1, bits 31:16. Style 0 has the upper byte only."""

    BPE = 1 << 7
    ENP = 1 << 8
    STP = 1 << 9
    DEF = 1 << 10
    ONE = 1 << 11
    MORE = 1 << 12  # the driver's LTINT
    ADD_FCS = 1 << 13  # style 1: NO_FCS
    ERR = 1 << 14
    OWN = 1 << 15


class TmdError(IntFlag):
    """TMD2 in 32-bit structures; its upper half is TMD3 in 16-bit ones."""

    RTRY = 1 << 26
    LCAR = 1 << 27
    LCOL = 1 << 28
    EXDEF = 1 << 29
    UFLO = 1 << 30
    BUFF = 1 << 31


class Rmd(IntFlag):
    """Status of a receive descriptor: RMD1, bits 31:16. Style 0 has the upper byte only."""

    BAM = 1 << 4
    LAFM = 1 << 5
    PAM = 1 << 6
    BPE = 1 << 7
    ENP = 1 << 8
    STP = 1 << 9
    BUFF = 1 << 10
    CRC = 1 << 11
    OFLO = 1 << 12
    FRAM = 1 << 13
    ERR = 1 << 14
    OWN = 1 << 15


BCNT = 0x0FFF  # two's complement of the length; 0 is 4096
MCNT = 0x0FFF
BUFFER_BYTES_MAX = 4096


class Style(NamedTuple):
    """How a software style lays a descriptor out: offsets. BCNT is a word at 4 in each of them."""

    size: int
    address_at: int
    misc_at: int
    status_at: int  # of the byte with bits 15:8, where the others have the word
    wide: bool  # 32-bit structures


NARROW = Style(8, 0, 6, 3, wide=False)
PCNET = Style(16, 0, 8, 6, wide=True)
EXCHANGED = Style(16, 8, 0, 6, wide=True)
STYLES = {0: NARROW, 1: PCNET, 2: PCNET, 3: EXCHANGED}
BCNT_AT = 4
ILACC = 1  # the style in which a transmit descriptor's bit 29 is NO_FCS
