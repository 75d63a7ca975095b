"""The option ROM of the BusLogic adapter, as bytes: INT 13h for its disks, which SeaBIOS itself has no driver for.

Its source is buslogic_bios.S beside this file. What is kept here is that source assembled, so that a machine needs no
assembler; tests/hw/firmware/test_buslogic_rom.py assembles it again and compares, and writes this table anew when
RINGFENCE_WRITE_ROM is set.
Source: PCI firmware specification 3.0, "PCI Expansion ROMs"; Plug and Play BIOS specification 1.0A, 3.2.
"""

from __future__ import annotations

import base64
import zlib

from hw.scsi.buslogic_spec import IDS

BLOCK_BYTES = 512
BLOCKS_AT, EXPANSION_AT = 2, 0x1A  # the size in blocks; where the offset of the expansion header is
EXPANSION_BYTES, EXPANSION_CHECKSUM = 0x20, 9
# Under this name SeaBIOS finds a ROM for a function of the PCI bus that has none of its own. [SeaBIOS, optionroms.c]
FILE_NAME = f"pci{IDS.vendor:04x},{IDS.device:04x}.rom"

ASSEMBLED = """
c-rk$-ES0C6hE_jcXnI1?NCcun!0SrIu=ZZZh~5Bg?{Z)0wr6ZrKl7L^dL3CWV%yAVsy3(X10Z<zVV<5W#fb8!F||3KN6W`NViH1gcqCC2S5yC7K(_Jt
}VOXyOjsyKj4EmnK@^E=iD>D^KozcDEYM?{=F)p9)eBVc5N5x1ppU=I077i3Xm>5n*d-B4ts;ggPi5Xu7l9S9KFrf7s#$-$B$z7@x$G)yJ`0}&yi!jAN
G2x8kOE1A00h*cpde~<^AxWn_t3`%L|yi@4)a43aMrr$kkFzg`t@to!WFv-X^%$mm60BgFgMqMeM`_7}LOfAIvbwR`W5K4zRDmLt`Ge?whUFC5yc&ya*
0?UaI1Ac4G{F8`6EVB8InkgRQM0d&Cfw#~Gui0DE%SBlLinJ7AAob0+UPlO`#+sc;$ND4yL)CKjCdXky9vFfwg>#1P>Hf)69NmncnRuv~?>Iyb4RW-G{
VO;*QEKgb*6ubQtzwQh=Ft_Rr@51W+`=gd`rgKiDR31~BBAz(7?xcijS&xdK8GbRPW<l&3BXYNY_+i;wg#KKGuJPS25AscQ}o@Q{L;hVj34%9_^s6uml
z^njyg|?rMq#RkkAJonL;0W<e>Y^ae8u3!I52kn#yi<HB@a9(_ADQQautw=(;<mDPo^JzH3C4jYu<R2CO1~b=lOWe%c=H~{0u%{Hf`BE{Sg%;H1*5i!d
Jnz>;DNs42{o_QL!Wgbw<X$67L1I6gXJ1v<Z2Mdy);C^u{YRuhPKtGUs(&|JUqF$uk*l#wV;VB0HftD`YJBVQz$fc)9iO)$0VTzdy|0zSf}`xp)|$2+2
}+mh$Ae#UW2iXRGL*71L|19UUuN(7W3<D<8lcfsGBLQ@U(t^q&MYT=9wFD!)ZMvozj)p)Fq4JK3@yok~&_oZdZmALY*~Knjm$ykTYSevxoSECv8cn8SK
J$ao>9en_X!{Wf2;NW?0D~RO8c!bn(1G21NRKP1Hn%6sf9op&ukojDUzEJ3zwNDG*cq4mf8O&lK+jbNh2PygvQ9R9oH;vYm<u$Tle_odP$H2cy3%ElPu
KdL(A0_0*%}(x1uu)^O?^4D9Dw|G#w-sn#1Rj!ap@SwE3~PjHzuk#c)D4PTiAx=(&d#j5NSA0m);s5`4TO$-q{WM6Xw{Df;EmLG`q79l?p$4OG)Cr&>p
@)MzhtniaEKUw(!Y53gMIBIM9#@3v$ZS|9uHGK6wI)y`qI6xz*OWad~&QDQxd43wQvW41l&=w7pVbT<$0awDhV3=<Joe~1j$Kx22Em~l;evdEgwrS`Z@
RRJc7Fd}NORJ~_%BBL9zyg(A@{{>)8@&&vX;Adt!e@{1w61XV##ogj?HF4xq^)BcTtVs?sKnSX&;gAseA?SZfi9Q!lm37o2&`uJN#y4(p_bbHwi8X%)J
pK#9V$Ck;->F=eaPKpppAm`us6GM7&}8J{&I&0lXnSK0s?YZJ549_5=PDFq?M*=7SsPF?-Zy@F2#zz@67V&I6^lL7U8;NpBvw%c6k*$IWaGc48v#FV(Y
-He4Z~-f@F*Y7yd*TZC8p@0ik^~6>xEo;MfWJXL3V<wS#>`RO<w}L!@k)E%{7oo+kpd8lf5yBOg0K*(l;*vx9MGUVC^(KJQQR?04pRi~bIkYNpqC#^|I
xIvJ6CKFhWQCr0Wj<OVTCDu6j!!0gM47^P8IJDBERnvH2r+7>1S5mU`&>~g1DT)+~{81Vo4Pp!WIVR}xb
"""


def buslogic_rom() -> bytes:
    """A whole number of blocks, with its checksums."""
    return finished(zlib.decompress(base64.b85decode("".join(ASSEMBLED.split()))))


def finished(assembled: bytes) -> bytes:
    """With the bytes that make its parts add up to 0."""
    rom = bytearray(assembled)
    assert len(rom) == rom[BLOCKS_AT] * BLOCK_BYTES, "the ROM is as long as it says"
    header = int.from_bytes(rom[EXPANSION_AT : EXPANSION_AT + 2], "little")
    rom[header + EXPANSION_CHECKSUM] = -sum(rom[header : header + EXPANSION_BYTES]) & 0xFF
    rom[-1] = -sum(rom) & 0xFF
    return bytes(rom)
