"""The keys of a PC keyboard: their codes, their names, and the X keysyms and characters that they make; no behaviour.

A code is the make code of scan-code set 1; E0xxh is an extended key. The layout is the US one; LESS is the key that a
102-key keyboard has beside the left Shift. What a key makes with Shift is `SHIFTED`.
Source: IBM PS/2 Hardware Interface Technical Reference, "Scan codes"; X Window System Protocol, "Keysym encoding".
"""

from enum import IntEnum


class KeyCode(IntEnum):
    """Keys by their place on a US keyboard."""

    ESC = 0x01
    DIGIT_1 = 0x02
    DIGIT_2 = 0x03
    DIGIT_3 = 0x04
    DIGIT_4 = 0x05
    DIGIT_5 = 0x06
    DIGIT_6 = 0x07
    DIGIT_7 = 0x08
    DIGIT_8 = 0x09
    DIGIT_9 = 0x0A
    DIGIT_0 = 0x0B
    MINUS = 0x0C
    EQUAL = 0x0D
    BACKSPACE = 0x0E
    TAB = 0x0F
    Q = 0x10
    W = 0x11
    E = 0x12
    R = 0x13
    T = 0x14
    Y = 0x15
    U = 0x16
    I = 0x17  # noqa: E741
    O = 0x18  # noqa: E741
    P = 0x19
    BRACKET_LEFT = 0x1A
    BRACKET_RIGHT = 0x1B
    RETURN = 0x1C
    CTRL_LEFT = 0x1D
    A = 0x1E
    S = 0x1F
    D = 0x20
    F = 0x21
    G = 0x22
    H = 0x23
    J = 0x24
    K = 0x25
    L = 0x26
    SEMICOLON = 0x27
    APOSTROPHE = 0x28
    GRAVE = 0x29
    SHIFT_LEFT = 0x2A
    BACKSLASH = 0x2B
    Z = 0x2C
    X = 0x2D
    C = 0x2E
    V = 0x2F
    B = 0x30
    N = 0x31
    M = 0x32
    COMMA = 0x33
    PERIOD = 0x34
    SLASH = 0x35
    SHIFT_RIGHT = 0x36
    KP_MULTIPLY = 0x37
    ALT_LEFT = 0x38
    SPACE = 0x39
    CAPS_LOCK = 0x3A
    F1 = 0x3B
    F2 = 0x3C
    F3 = 0x3D
    F4 = 0x3E
    F5 = 0x3F
    F6 = 0x40
    F7 = 0x41
    F8 = 0x42
    F9 = 0x43
    F10 = 0x44
    NUM_LOCK = 0x45
    SCROLL_LOCK = 0x46
    KP_7 = 0x47
    KP_8 = 0x48
    KP_9 = 0x49
    KP_SUBTRACT = 0x4A
    KP_4 = 0x4B
    KP_5 = 0x4C
    KP_6 = 0x4D
    KP_ADD = 0x4E
    KP_1 = 0x4F
    KP_2 = 0x50
    KP_3 = 0x51
    KP_0 = 0x52
    KP_DECIMAL = 0x53
    SYS_RQ = 0x54
    LESS = 0x56
    F11 = 0x57
    F12 = 0x58
    KP_ENTER = 0xE01C
    CTRL_RIGHT = 0xE01D
    KP_DIVIDE = 0xE035
    PRINT_SCREEN = 0xE037
    ALT_RIGHT = 0xE038
    BREAK = 0xE046
    HOME = 0xE047
    UP = 0xE048
    PAGE_UP = 0xE049
    LEFT = 0xE04B
    RIGHT = 0xE04D
    END = 0xE04F
    DOWN = 0xE050
    PAGE_DOWN = 0xE051
    INSERT = 0xE052
    DELETE = 0xE053
    SUPER_LEFT = 0xE05B
    SUPER_RIGHT = 0xE05C
    MENU = 0xE05D
    PAUSE = 0xE11D


K = KeyCode
SHIFTS = frozenset({K.SHIFT_LEFT, K.SHIFT_RIGHT})
LETTERS = "abcdefghijklmnopqrstuvwxyz"

# Characters by the key that makes them: without Shift, and with it.
PLAIN: dict[str, KeyCode] = {
    **{letter: KeyCode[letter.upper()] for letter in LETTERS},
    **{digit: KeyCode[f"DIGIT_{digit}"] for digit in "0123456789"},
    " ": K.SPACE, "\t": K.TAB, "\n": K.RETURN, "\r": K.RETURN, "\b": K.BACKSPACE, "\x1b": K.ESC, "\x7f": K.DELETE,
    "-": K.MINUS, "=": K.EQUAL, "[": K.BRACKET_LEFT, "]": K.BRACKET_RIGHT, ";": K.SEMICOLON, "'": K.APOSTROPHE,
    "`": K.GRAVE, "\\": K.BACKSLASH, ",": K.COMMA, ".": K.PERIOD, "/": K.SLASH,
}  # fmt: skip
SHIFTED: dict[str, KeyCode] = {
    **{letter.upper(): KeyCode[letter.upper()] for letter in LETTERS},
    **dict(zip(")!@#$%^&*(", (KeyCode[f"DIGIT_{digit}"] for digit in range(10)), strict=True)),
    "_": K.MINUS, "+": K.EQUAL, "{": K.BRACKET_LEFT, "}": K.BRACKET_RIGHT, ":": K.SEMICOLON, '"': K.APOSTROPHE,
    "~": K.GRAVE, "|": K.BACKSLASH, "<": K.COMMA, ">": K.PERIOD, "?": K.SLASH,
}  # fmt: skip

# Names of keys, in lower case, as people write them.
NAMES: dict[str, KeyCode] = {
    "esc": K.ESC, "escape": K.ESC, "backspace": K.BACKSPACE, "bspace": K.BACKSPACE, "tab": K.TAB,
    "return": K.RETURN, "enter": K.RETURN, "space": K.SPACE, "spc": K.SPACE, "minus": K.MINUS, "plus": K.KP_ADD,
    "caps_lock": K.CAPS_LOCK, "capslock": K.CAPS_LOCK, "num_lock": K.NUM_LOCK, "numlock": K.NUM_LOCK,
    "scroll_lock": K.SCROLL_LOCK, "scrolllock": K.SCROLL_LOCK,
    **{f"f{number}": KeyCode[f"F{number}"] for number in range(1, 13)},
    "print": K.PRINT_SCREEN, "printscreen": K.PRINT_SCREEN, "sysrq": K.SYS_RQ, "sys_rq": K.SYS_RQ,
    "pause": K.PAUSE, "break": K.BREAK, "home": K.HOME, "end": K.END, "insert": K.INSERT, "ins": K.INSERT,
    "delete": K.DELETE, "del": K.DELETE, "page_up": K.PAGE_UP, "pageup": K.PAGE_UP, "pgup": K.PAGE_UP,
    "page_down": K.PAGE_DOWN, "pagedown": K.PAGE_DOWN, "pgdn": K.PAGE_DOWN,
    "up": K.UP, "down": K.DOWN, "left": K.LEFT, "right": K.RIGHT, "menu": K.MENU, "less": K.LESS,
    **{f"kp_{digit}": KeyCode[f"KP_{digit}"] for digit in range(10)},
    "kp_enter": K.KP_ENTER, "kp_add": K.KP_ADD, "kp_subtract": K.KP_SUBTRACT, "kp_multiply": K.KP_MULTIPLY,
    "kp_divide": K.KP_DIVIDE, "kp_decimal": K.KP_DECIMAL,
}  # fmt: skip
MODIFIERS: dict[str, KeyCode] = {
    "ctrl": K.CTRL_LEFT, "control": K.CTRL_LEFT, "ctrl_l": K.CTRL_LEFT, "control_l": K.CTRL_LEFT,
    "ctrl_r": K.CTRL_RIGHT, "control_r": K.CTRL_RIGHT, "alt": K.ALT_LEFT, "alt_l": K.ALT_LEFT, "alt_r": K.ALT_RIGHT,
    "altgr": K.ALT_RIGHT, "shift": K.SHIFT_LEFT, "shift_l": K.SHIFT_LEFT, "shift_r": K.SHIFT_RIGHT,
    "super": K.SUPER_LEFT, "super_l": K.SUPER_LEFT, "super_r": K.SUPER_RIGHT, "win": K.SUPER_LEFT,
    "meta": K.SUPER_LEFT,
}  # fmt: skip

# X keysyms of keys that make no character; those below 100h are characters of ISO 8859-1.
KEYSYM_UNICODE = 0x01000000  # and the character's number
KEYSYMS: dict[int, KeyCode] = {
    0xFF08: K.BACKSPACE, 0xFF09: K.TAB, 0xFE20: K.TAB, 0xFF0A: K.RETURN, 0xFF0D: K.RETURN, 0xFF13: K.PAUSE,
    0xFF14: K.SCROLL_LOCK, 0xFF15: K.SYS_RQ, 0xFF1B: K.ESC, 0xFFFF: K.DELETE,
    0xFF50: K.HOME, 0xFF51: K.LEFT, 0xFF52: K.UP, 0xFF53: K.RIGHT, 0xFF54: K.DOWN, 0xFF55: K.PAGE_UP,
    0xFF56: K.PAGE_DOWN, 0xFF57: K.END, 0xFF61: K.PRINT_SCREEN, 0xFF63: K.INSERT, 0xFF67: K.MENU, 0xFF6B: K.BREAK,
    0xFF7F: K.NUM_LOCK, 0xFF80: K.SPACE, 0xFF89: K.TAB, 0xFF8D: K.KP_ENTER,
    0xFF95: K.KP_7, 0xFF96: K.KP_4, 0xFF97: K.KP_8, 0xFF98: K.KP_6, 0xFF99: K.KP_2, 0xFF9A: K.KP_9, 0xFF9B: K.KP_3,
    0xFF9C: K.KP_1, 0xFF9D: K.KP_5, 0xFF9E: K.KP_0, 0xFF9F: K.KP_DECIMAL,
    0xFFAA: K.KP_MULTIPLY, 0xFFAB: K.KP_ADD, 0xFFAC: K.KP_DECIMAL, 0xFFAD: K.KP_SUBTRACT, 0xFFAE: K.KP_DECIMAL,
    0xFFAF: K.KP_DIVIDE,
    **{0xFFB0 + digit: KeyCode[f"KP_{digit}"] for digit in range(10)},
    **{0xFFBD + number: KeyCode[f"F{number}"] for number in range(1, 13)},
    0xFFE1: K.SHIFT_LEFT, 0xFFE2: K.SHIFT_RIGHT, 0xFFE3: K.CTRL_LEFT, 0xFFE4: K.CTRL_RIGHT, 0xFFE5: K.CAPS_LOCK,
    0xFFE7: K.SUPER_LEFT, 0xFFE8: K.SUPER_RIGHT, 0xFFE9: K.ALT_LEFT, 0xFFEA: K.ALT_RIGHT, 0xFFEB: K.SUPER_LEFT,
    0xFFEC: K.SUPER_RIGHT, 0xFE03: K.ALT_RIGHT, 0xFF7E: K.ALT_RIGHT,
}  # fmt: skip
