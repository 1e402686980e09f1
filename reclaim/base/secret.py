"""Secrets in text that is shown: the one function that every row, report and line of the terminal goes through.

It knows how secrets are written: in addresses, as values of settings that are named after them, behind options of
tools, by their own shape. That is the second line: `reclaim.base.masked` shows only harmless parts of files and
definitions. The journal has everything as it is, for undo. It is for root alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import unquote

#: stands for a secret
MARK = "(redacted)"
#: characters of one value that are looked at: a bound keeps the time linear in the text
_MOST = 4000

#: parameters of libvirt's addresses, and of the words of --hosts, that hold no secret (libvirt.org/uri.html)
_PARAMETERS = """
keyfile known_hosts known_hosts_verify mode name no_sanity no_tty no_verify pkipath proxy socket ssh_config
ssh_identity_file sshauth sudo timeout tls_priority transport
"""
_HARMLESS_PARAMETERS = frozenset(_PARAMETERS.split())
#: these run a program, which the user has to see; its arguments may hold a secret
_PROGRAMS = ("command", "netcat")
#: of these an address has a token for its user, and may have secrets in any parameter
_WEB = ("http", "https", "ftp", "ftps", "git", "s3", "webdav", "webdavs", "davs", "dav")

#: whatever is called so is a secret
_STRONG = (
    r"passw(?:or)?[dt]|passphrase|passcode|passkey|secret(?:[_.-]?key)?|token|authtok|(?<![a-z])(?:pass|pwd?|psk)|"
    r"(?<![a-z])(?:smtp|i?mail|imap|db|user|root|admin|ftp|sftp|http|ldap|smb|ssh|vnc|bind)(?:pass|pw)|"
    r"kennwort|mot_?de_?passe|contrase[nñ]a|bindcredentials|"
    r"(?:api|access|private|account|auth|shared|encryption)[_.-]?key|passcommand|authorization|connection[_-]?string"
)
#: what is called so is one if it is set by `=`, to no path
_WEAK = r"(?<![a-z])(?:key|auth|cookies?|query|cred(?:ential)?s?|session|signature|sig|sas|chap|community|pin|mdp)"
#: qemu-system(1): -object secret,data=…; ext4(5) has a mount option of that name
_DATA = r"(?<![a-z])data(?!=(?:ordered|writeback|journal)\b)"
_BEHIND = r"(?:[_.\-\]][\w.\-]{0,40}|s|\d{1,3})?"
_QUOTED = rf'"(?:[^"\\\n]|\\.){{0,{_MOST}}}"|\'[^\'\n]{{0,{_MOST}}}\''
_BARE = r"(?:(?![,&;][\w.\-]{1,40}=)(?![;&|](?:\s|$))(?!</)[^\s\"'])"
#: `"a"'b'c` is one word of the shell; behind the quotes of JSON there are brackets
_VALUE = rf"(?!…)(?:{_QUOTED}|{_BARE}{{1,{_MOST}}})(?:{_QUOTED}|(?=[\w$\\/+.=-]){_BARE}{{1,{_MOST}}}){{0,3}}"
#: messages about a setting of the inventory, whatever its name
_NO_VALUE = (
    r"(?!there[ ]is[ ]no[ ]such[ ]key|this[ ]key[ ]is[ ]required|String[ ]should|it[ ]should[ ]be"
    r"|give[ ](?:a[ ](?:whole[ ]number|(?:text|path)[ ]in[ ]quotes|list[ ]in|table)|true[ ]or[ ]false|the[ ]reason))"
)
#: a value that nothing else goes by, and of which only the place is told
_PLACE = re.compile(r"""["']?/""")
_NAMES_PLACE = re.compile(r"(?:file|path|dir)[\"']?\s*[=:]", re.IGNORECASE)


#: how the words of errno(3), and ours, go on behind a file's name
_ERRORS = "No Not Permission Is File Too Input Invalid Read Stale Its It A Text Device Operation"
_OF_ERRORS = frozenset(_ERRORS.split())


def _kept_quotes(value: str) -> str:
    quote = value[:1]
    if quote in "\"'" and value[-1:] == quote:
        return f"{quote}{MARK}{quote}"
    return MARK


def _assigned(match: re.Match[str]) -> str:
    named, value = match[1], match[2]
    if _is_of_error(match):
        return match[0]
    if _PLACE.match(value) and _NAMES_PLACE.search(named):
        return match[0]
    return named + _kept_quotes(value)


def _is_of_error(match: re.Match[str]) -> bool:
    """True if *match* is the end of a file's path, ": ", and the first word of an error."""
    named, value = match[1], match[2]
    if not named.endswith(": ") or value.title() not in _OF_ERRORS:
        return False
    before = match.string[max(0, match.start() - 200) : match.end(1) - 2]
    return before.split()[-1].startswith("/")


def _assigned_no_place(match: re.Match[str]) -> str:
    if _PLACE.match(match[2]):
        return match[0]
    return match[1] + _kept_quotes(match[2])


def _behind(match: re.Match[str]) -> str:
    return match[1] + _kept_quotes(match[2])


def _is_harmless(name: str, value: str) -> bool:
    if name in _HARMLESS_PARAMETERS:
        return True
    return name in _PROGRAMS and redacted(value) == value


def _parameters(match: re.Match[str]) -> str:
    """Redact the query of an address, each parameter by itself."""
    is_web = match[2].lower() in _WEB
    shown = []
    for piece in re.split(r"([&;])", match[3]):
        shown.append(piece if piece in "&;" else _parameter(piece, is_web=is_web))
    return match[1] + "".join(shown)


def _parameter(parameter: str, *, is_web: bool) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return MARK
    if not is_web and _is_harmless(name, unquote(value)):
        return parameter
    return f"{name}={MARK}"


class _Rule(NamedTuple):
    """A way of writing a secret; looked for only in text that has one of *signs*, in lower case."""

    signs: tuple[str, ...]
    pattern: str
    shown: str | Callable[[re.Match[str]], str]
    flags: int


def _rule(
    signs: str,
    pattern: str,
    shown: str | Callable[[re.Match[str]], str],
    flags: int = 0,
) -> _Rule:
    return _Rule(
        tuple(signs.split()), pattern, shown, re.IGNORECASE | re.VERBOSE | flags
    )


@cache
def _compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile *pattern* when a text first needs it: together they take longer than the rest of a short command."""
    return re.compile(pattern, flags)


def _of_tool(tools: str, options: str) -> _Rule:
    """Return the rule for the value of any of *options* behind one of *tools*, up to the end of the line or a pipe."""
    signs = " ".join(re.findall(r"(?:^|\|)(\w+)", tools))
    given = rf"(?<=[ \t])((?:{options})[ \t=]{{0,3}})({_VALUE})"

    def shown(command: re.Match[str]) -> str:
        return _compiled(given).sub(_behind, command[0])

    return _rule(signs, rf"(?<!\w) (?:{tools}) (?=[ \t]) [^\n|]{{1,{_MOST}}}", shown)


_NAMED_SIGNS = (
    "pass pw secret token psk key auth connection kennwort contrase credentials"
)
_WEAK_SIGNS = "key auth cookie query cred session sig sas chap community data pin mdp"

_RULES = (
    _rule(
        "private",
        r"(-----BEGIN[A-Z ]{0,40}PRIVATE[ ]KEY (?:[ ]BLOCK)? -----) .*? (?: -----END[A-Z ]{0,60}----- | \Z)",
        rf"\1 {MARK}",
        re.DOTALL,
    ),
    _rule(
        "<(",
        rf"(<\( [ \t]* (?:echo|printf) [ \t]+) (?!\(redacted\)) [^)\n]{{1,{_MOST}}}",
        rf"\1{MARK}",
    ),
    # the query of an address before its user: what is behind the ? may hold an @
    _rule(
        "://",
        r"""(\b ([a-z][\w.-]{0,20} (?:\+[a-z0-9]{1,20})?) :// [^\s?"'<>]{0,1000} \?) ([^\s"'<>]+)""",
        _parameters,
    ),
    # up to the last @ before the next address: a password may hold whatever it should not
    _rule(
        "://",
        r"""(:// [^\s/:@"'<>]{0,200} :) (?! \d{1,5} (?: [/?#,\s"'] | $ ) )"""
        r"""(?: (?! ,? [a-z+]{0,20} :// ) [^\s"'<>] ){1,1000} @""",
        rf"\1{MARK}@",
    ),
    _rule(
        "://",
        rf"""\b ((?:{"|".join(_WEB)}) ://) [^\s/:@"'<>]{{1,1000}} @""",
        rf"\1{MARK}@",
    ),
    _rule(
        "@",
        # behind an @ it is a host, and the next of a list may follow its port
        r"""((?<![\w.%+/-]) (?! (?<=@) [\w.-]{1,64} : \d{1,5} ,) [\w.%+-]{1,64} :)"""
        r"""(?!//) [^\s@"'<>]{1,256} @ (?=[\w\[])""",
        rf"\1{MARK}@",
    ),
    _rule(
        "authorization x- cookie",
        r"""\b ((?: (?:proxy-)?authorization | x-[\w-]{1,30} | (?:set-)?cookie ) [ \t]{0,3} : [ \t]{0,3})"""
        r"""[^\n"']{1,2000}""",
        rf"\1{MARK}",
    ),
    _rule(
        "bearer basic",
        r"\b ((?:bearer|basic) [ \t]{1,3}) (?=\S{0,200}[\d=._-]) \S{8,4000}",
        rf"\1{MARK}",
    ),
    _rule(
        _NAMED_SIGNS,
        # "it asks for a password: …" is prose, NOPASSWD: is sudo's
        rf"""((?<!\ba[ ])(?<!no)(?:{_STRONG}) {_BEHIND} ["']? [ \t]{{0,3}}"""
        rf"""(?: =>? | :(?!//|:) (?! [ \t]{{0,3}} [\w-]{{1,40}} : \s ) ) [ \t]{{0,3}}) {_NO_VALUE} ({_VALUE})""",
        _assigned,
    ),
    _rule(
        _WEAK_SIGNS,
        rf"""((?:{_WEAK}) {_BEHIND} ["']? [ \t]{{0,3}} = [ \t]{{0,3}}) ({_VALUE})""",
        _assigned_no_place,
    ),
    # JSON, and Python's own words for a dictionary
    _rule(
        _WEAK_SIGNS,
        rf"""(["'](?:\w{{1,20}}[_.-])?(?:{_WEAK})["'] [ \t]{{0,3}} : [ \t]{{0,3}}) ({_QUOTED})""",
        _assigned_no_place,
    ),
    # a file of settings that are parted by blanks; prose has words of small letters
    _rule(
        _NAMED_SIGNS,
        rf"((?:^[ \t+-]{{0,20}}|[:;][ ]) [\w.-]{{0,40}}? (?:{_STRONG}) [ \t]{{1,8}})"
        rf"(?=[^\s;]{{0,200}}[^a-z\s;]) (?![=:|(]) ([^\s;]{{1,{_MOST}}}) (?=[ \t]*(?:$|;))",
        _assigned_no_place,
        re.MULTILINE,
    ),
    _rule("data=", rf"({_DATA}=) ({_VALUE})", _behind),
    _rule(
        _NAMED_SIGNS,
        rf"(?<=\s) (-{{1,2}} [\w-]{{0,30}} (?:{_STRONG}) (?: -(?!file|path|dir)\w{{1,20}} )? [ \t]{{1,3}})"
        rf"(?!-) ({_VALUE})",
        _behind,
    ),
    _rule(
        f"{_NAMED_SIGNS} {_WEAK_SIGNS}",
        rf"(< (?:\w{{1,20}}:)? [\w-]{{0,30}} (?:{_STRONG}|cookie|query) [^<>]{{0,300}} >) [^<]{{1,{_MOST}}}",
        rf"\1{MARK}",
    ),
    _rule("pass:", rf"\b (pass:) ({_VALUE})", _behind),
    _rule(
        "user",
        r"""(\b user(?:name)?= [^\s,%]{1,100} %) [^\s,"']{1,1000}""",
        rf"\1{MARK}",
    ),
    _rule(
        "login",
        r"(\b login [ \t]+ \S{1,200} [ \t]+ password [ \t]+) \S{1,1000}",
        rf"\1{MARK}",
    ),
    _rule(
        "password",
        r"((?: ^ [ \t+-]{0,20} | [:;][ ] ) password [ \t]+ [\w.-]{1,40} [ \t]+) [^\s;]{1,1000} (?= $ | ; )",
        rf"\1{MARK}",
        re.MULTILINE,
    ),
    _rule("pbkdf2", r"grub\.pbkdf2\.\S{1,4000}", MARK),
    _rule(
        "$",
        r"""\$ (?: [1-9][a-z]? | y | gy | 7 | argon2\w{1,4} ) \$ [^\s:"']{8,1000}""",
        MARK,
    ),
    _rule("<<<", rf"(<<< [ \t]{{0,3}}) ({_VALUE})", _behind),
    _rule(
        "echo printf",
        r"(\b (?:echo|printf) [ \t]+) [^|\n]{1,1000}"
        r"(\| [^\n|]{0,300}?"
        r"(?: \b (?:sudo|su|gpg|login|stdin|veracrypt) \b | passw | passphrase | crypt | load-key | secret))",
        rf"\1{MARK} \2",
    ),
    _rule(
        "send",
        r"""(\b send [ \t]+ (?:--[ \t]+)?) (["{]) [^\n]{1,1000}? \\[rn] (["}])""",
        rf"\1\2{MARK}\3",
    ),
    # what is given by its place
    _rule(
        "secret-set-value set-user-password htpasswd vault",
        r"\b (secret-set-value | set-user-password | htpasswd[ \t]+-\w{0,9}b\w{0,9} | vault[ \t]+login) [ \t]+"
        rf"[^\n;|]{{1,{_MOST}}}",
        rf"\1 {MARK}",
    ),
    _rule(
        "user",
        rf"(\b (?:incoming|outgoing)user [ \t]+ \S{{1,200}} [ \t]+) ({_VALUE})",
        _behind,
    ),
    _rule(
        "auth.password",
        rf"(auth\.password \S{{0,10}} [ \t] [^\n|]{{0,100}}? (?:-v|--value) [ \t=]{{1,3}}) ({_VALUE})",
        _behind,
    ),
    _rule(
        "from-literal",
        rf"(--from-literal [ \t=]{{1,3}} [\w.-]{{1,100}} =) ({_VALUE})",
        _behind,
    ),
    # addresses that are the secret
    _rule(
        "hooks.slack discord api.telegram webhook",
        r"( hooks\.slack\.com/\w{1,20} | discord(?:app)?\.com/api/webhooks | api\.telegram\.org"
        r"| \.webhook\.office\.com/\w{1,20} ) /"
        r"""[^\s"'<>]{1,1000}""",
        rf"\1/{MARK}",
    ),
    _of_tool("sshpass", "-v?p"),
    _of_tool("plink|pscp|psftp", "-pw"),
    _of_tool(
        r"mysql\w{0,20}|mariadb[\w-]{0,20}|7z[arz]?|unrar|rar", r"-(?:hp|p)(?=\S)"
    ),
    _of_tool(
        "curl|wget",
        "-[fgiksvLNOS#]{0,9}[uUEbH]|--(?:proxy-)?user|--header|--(?:proxy-)?cert|--cookie",
    ),
    _of_tool(r"smb\w{1,10}|rpcclient|net|winexe|lftp|ncftp\w{0,10}", "-[uU]"),
    _of_tool(r"ncftp\w{0,10}|veracrypt|esxcli|racadm|user(?:add|mod)", "-p"),
    _of_tool(r"zip|unzip|ipmitool|mosquitto\w{1,10}", "-[a-zA-Z]{0,9}P"),
    _of_tool("rbd|rados|ceph", "--key|--secret"),
    _of_tool("nmcli", r"\S{1,60}\.(?:psk|password|wep-key\d?)"),
    _of_tool("swaks|sendemail", "-[ax]p"),
    _of_tool(r"ldap\w{1,20}|kinit", "-w"),
    _of_tool("redis-cli", "-a"),
    _of_tool(
        r"mongo\w{0,20}|docker|podman|skopeo", r"-p(?!\s{0,3}[\d.:]{1,30}(?:\s|$))"
    ),
    _of_tool("openssl", "-k|-K|-passin|-passout"),
    _of_tool(r"snmp\w{1,20}", "-[cAX]"),
    _of_tool("xfreerdp", "/p:"),
    # by their own shape: GitHub, GitLab, Slack, AWS, Vault, age, JSON web tokens, ceph's keys
    _rule(
        "gh glpat xox akia asia hvs. eyj aq sk- age-secret",
        r"\b (?-i: gh[pousr]_\w{20,255} | github_pat_\w{20,255} | glpat-[\w-]{10,255} | xox[abprs]-[\w-]{10,255}"
        r"| (?:AKIA|ASIA)[A-Z0-9]{16} | hvs\.[\w-]{10,255} | sk-[\w-]{16,255} | AGE-SECRET-KEY-\w{20,255}"
        r"| eyJ[\w-]{8,4000}\.[\w-]{4,4000}(?:\.[\w-]{0,4000})? | AQ[A-Za-z0-9+/]{36,38}={0,2} )",
        MARK,
    ),
)


#: characters of a text that is remembered, and the number of such texts: most rows of a fleet have the same reasons
_SHORT, _REMEMBERED = 200, 2048


def redacted(text: str) -> str:
    """Return *text* with the secrets in it replaced by MARK. Doing it twice changes nothing more."""
    return _remembered(text) if len(text) <= _SHORT else _by_rules(text)


@lru_cache(_REMEMBERED, typed=True)  # a Markup is equal to a text that is none
def _remembered(text: str) -> str:
    return _by_rules(text)


def _by_rules(text: str) -> str:
    low = text.lower()
    for rule in _RULES:
        if any(map(low.__contains__, rule.signs)):
            text = _compiled(rule.pattern, rule.flags).sub(rule.shown, text)
    return text


_SECRET_NAME = rf"(?:{_STRONG}|{_WEAK})(?!.*[_-](?:file|path|dir)$){_BEHIND}$"


def names_secret(name: str) -> bool:
    """True if the setting *name* holds a secret, or the option *name* is followed by one."""
    return bool(_compiled(_SECRET_NAME, re.IGNORECASE).search(name))


def redacted_arguments(arguments: Iterable[str]) -> list[str]:
    """Redact a command line: each argument, the value of pytest's `--metadata NAME VALUE`, and that of --notify.

    The command of --notify may contain any address that is a secret.
    """
    given = list(map(str, arguments))
    shown = list(map(redacted, given))
    for number, argument in enumerate(given):
        if argument.startswith("--notify="):
            shown[number] = f"--notify={MARK}"
        elif argument == "--notify" and number + 1 < len(given):
            shown[number + 1] = MARK
    for number, argument in enumerate(given[:-2]):
        name = given[number + 1]
        if argument == "--metadata" and names_secret(name):
            shown[number + 2] = MARK
    return shown
