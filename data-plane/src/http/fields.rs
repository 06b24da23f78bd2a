//! Header fields as ranges in their head's buffer, and what each one is to a proxy, found once while parsing.
//!
//! Order and case are kept. The rules that requests and answers share live here: how lines end, what Connection
//! nominates, and that a message says at most once how long it is.

use std::time::Duration;

use weir_snapshot::aliases::{CLIENT_IP, FAMILIES, reads_as};

use super::{Range, list, slice};

/// The most options that Connection may list; each of them is compared with each field.
const MAX_OPTIONS: usize = 32;

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub name: Range,
    pub value: Range,
    pub known: Known,
    /// It belongs to this hop: its own meaning, or Connection's nomination. Never forwarded as it stands.
    pub hop: bool,
    /// Its bytes are exactly `Name: value\r\n`, so that it can be copied with its neighbours.
    pub plain: bool,
}

/// The fields that a proxy must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Other,
    /// Named so that a CGI-style backend takes it for a field that Weir writes, removes or vouches for
    /// ([`weir_snapshot::aliases`]), or for the variable HTTP_PROXY.
    Alias,
    /// Says where the request came from, as a proxy would; passed on from trusted proxies only.
    Claim,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRealIp,
    XRequestId,
}

/// What a field's name means; by length first, so that most names cost one comparison or none.
pub(crate) fn classify(name: &[u8]) -> Known {
    let candidates: &[(&[u8], Known)] = match name.len() {
        2 => &[(b"te", Known::Te)],
        3 => &[(b"via", Known::Via)],
        4 => &[(b"host", Known::Host), (b"date", Known::Date)],
        // HTTP_PROXY is where many HTTP clients look for their proxy (CVE-2016-5385 and its like).
        5 => &[(b"proxy", Known::Alias)],
        6 => &[
            (b"cookie", Known::Cookie),
            (b"server", Known::Server),
            (b"expect", Known::Expect),
            (b"x-host", Known::Claim),
        ],
        7 => &[(b"upgrade", Known::Upgrade), (b"trailer", Known::Trailer)],
        8 => &[(b"x-scheme", Known::Claim)],
        9 => {
            &[(b"x-real-ip", Known::XRealIp), (b"forwarded", Known::Forwarded), (b"x-arr-ssl", Known::Claim)]
        }
        10 => &[
            (b"connection", Known::Connection),
            (b"set-cookie", Known::SetCookie),
            (b"keep-alive", Known::KeepAlive),
        ],
        11 => &[
            (b"x-forwarded", Known::Claim),
            (b"x-real-host", Known::Claim),
            (b"x-real-port", Known::Claim),
            (b"x-remote-ip", Known::Claim),
        ],
        12 => &[
            (b"x-request-id", Known::XRequestId),
            (b"max-forwards", Known::MaxForwards),
            (b"x-url-scheme", Known::Claim),
            (b"x-real-proto", Known::Claim),
            (b"wl-proxy-ssl", Known::Claim),
        ],
        13 => &[
            (b"authorization", Known::Authorization),
            (b"x-rewrite-url", Known::Claim),
            (b"x-remote-addr", Known::Claim),
            (b"x-forward-for", Known::Claim),
            (b"forwarded-for", Known::Claim),
        ],
        14 => &[
            (b"content-length", Known::ContentLength),
            (b"http2-settings", Known::Http2Settings),
            (b"x-original-url", Known::Claim),
            (b"x-original-uri", Known::Claim),
            (b"x-proxyuser-ip", Known::Claim),
        ],
        15 => &[
            (b"x-forwarded-for", Known::XForwardedFor),
            (b"x-original-host", Known::Claim),
            (b"x-original-path", Known::Claim),
            (b"front-end-https", Known::Claim),
            (b"forwarded-proto", Known::Claim),
        ],
        16 => &[
            (b"x-forwarded-host", Known::XForwardedHost),
            (b"proxy-connection", Known::ProxyConnection),
            (b"cf-connecting-ip", Known::Claim),
            (b"x-originating-ip", Known::Claim),
            (b"x-azure-clientip", Known::Claim),
            (b"x-azure-socketip", Known::Claim),
        ],
        17 => &[
            (b"transfer-encoding", Known::TransferEncoding),
            (b"x-forwarded-proto", Known::XForwardedProto),
            (b"x-original-method", Known::Claim),
        ],
        18 => &[(b"proxy-authenticate", Known::ProxyAuthenticate)],
        19 => &[(b"proxy-authorization", Known::ProxyAuthorization)],
        20 => &[(b"x-http-host-override", Known::Claim)],
        22 => &[(b"x-original-remote-addr", Known::Claim)],
        24 => &[(b"x-original-forwarded-for", Known::Claim)],
        _ => &[],
    };
    // The first letter rules out most of the rest.
    let first = name.first().map(u8::to_ascii_lowercase);
    let found = candidates.iter().find(|(text, _)| text.first().copied() == first && reads_as(name, text));
    match found {
        Some((text, known)) if name.eq_ignore_ascii_case(text) => *known,
        Some(_) => Known::Alias,
        None => claim(name, first),
    }
}

/// The whole family of `X-Forwarded-*` is a proxy's word: -Port, -Prefix, -Ssl, -Server, -Scheme, -Client-Cert and more; so
/// is every name of a client's address that ends with `Client-IP`.
fn claim(name: &[u8], first: Option<u8>) -> Known {
    let part = |own: &[u8], is_there: bool| match is_there {
        true if own.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') => Some(Known::Claim),
        true => Some(Known::Alias),
        false => None,
    };
    let family = FAMILIES.iter().filter(|_| first == Some(b'x')).find_map(|family| {
        let start = name.get(..family.len())?;
        part(name, reads_as(start, family.as_bytes()))
    });
    let client_ip = || {
        // The last letter rules out most names.
        name.last().filter(|byte| byte.eq_ignore_ascii_case(&b'p'))?;
        let rest = name.len().checked_sub(CLIENT_IP.len())?;
        let begins = rest == 0 || !name[rest - 1].is_ascii_alphanumeric();
        part(name, begins && reads_as(&name[rest..], CLIENT_IP.as_bytes()))
    };
    family.or_else(client_ip).unwrap_or(Known::Other)
}

impl Known {
    /// Whether the field speaks about this connection, its framing or its proxy (RFC 9110 section 7.6.1).
    const fn is_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether Connection can take the field away. What says for whom and from whom the message is cannot be: that
    /// would let a client strip what proxies vouch for.
    const fn can_be_nominated(self) -> bool {
        !matches!(
            self,
            Self::Host
                | Self::Claim
                | Self::Forwarded
                | Self::Via
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedProto
                | Self::XRealIp
                | Self::XRequestId
        )
    }
}

/// Why the fields of a head cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed(&'static str),
    /// A transfer coding that exists and is not implemented here.
    Coding,
}

/// What all the fields of a head say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    pub(super) host: Option<Range>,
    pub(super) hosts: u32,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// What Keep-Alive says of the time between requests.
    pub(super) kept_for: Option<Duration>,
    pub(super) upgrade: bool,
    pub(super) upgrade_option: bool,
    pub(super) te_trailers: bool,
    pub(super) date: bool,
    pub(super) expects: u32,
}

/// Fills `fields` from what httparse found in `head`, the whole head, and checks what httparse does not.
pub(super) fn scan(
    head: &[u8],
    found: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Summary, Fault> {
    // httparse takes a bare LF for a line end. No line can hold another LF than its last byte, so looking before the
    // start of each name and at the end of the head covers them all.
    const BARE_LF: Fault = Fault::Malformed("line ends without CR");
    if !head.ends_with(b"\r\n\r\n") {
        return Err(BARE_LF);
    }
    fields.clear();
    fields.reserve(found.len());
    let mut summary = Summary::default();
    let mut encodings = 0_u32;
    let mut options = false;
    for header in found {
        let name = super::range_in(head, header.name.as_bytes());
        let start = name.0 as usize;
        if start < 2 || &head[start - 2..start] != b"\r\n" {
            return Err(BARE_LF);
        }
        if head.get(name.1 as usize) != Some(&b':') {
            return Err(Fault::Malformed("field name is not followed by a colon"));
        }
        if let Some(previous) = fields.last_mut() {
            close_line(previous, head, start - 2);
        }
        let value = if header.value.is_empty() {
            (name.1 + 1, name.1 + 1)
        } else {
            super::range_in(head, header.value)
        };
        let known = classify(header.name.as_bytes());
        match known {
            Known::Other => {}
            Known::Host => {
                summary.hosts += 1;
                summary.host = Some(value);
            }
            Known::ContentLength => {
                if summary.content_length.is_some() {
                    return Err(Fault::Malformed("several Content-Length fields"));
                }
                summary.content_length = Some(length(header.value)?);
            }
            Known::TransferEncoding => {
                encodings += 1;
                if encodings > 1 {
                    return Err(Fault::Malformed("several Transfer-Encoding fields"));
                }
                coding(header.value)?;
                summary.chunked = true;
            }
            Known::Connection => options |= summary.connection(header.value),
            Known::KeepAlive => summary.kept_for = kept_for(header.value).or(summary.kept_for),
            Known::Upgrade => summary.upgrade = true,
            Known::Te => {
                summary.te_trailers |= list(header.value).any(|code| code.eq_ignore_ascii_case(b"trailers"));
            }
            Known::Date => summary.date = true,
            Known::Expect => summary.expects += 1,
            _ => {}
        }
        fields.push(Field { name, value, known, hop: known.is_hop(), plain: false });
    }
    if let Some(last) = fields.last_mut() {
        close_line(last, head, head.len() - 4);
    }
    if summary.chunked && summary.content_length.is_some() {
        return Err(Fault::Malformed("Content-Length together with Transfer-Encoding"));
    }
    if encodings > 0 || summary.content_length.is_some() {
        no_tabs(head, fields)?;
    }
    if options {
        nominate(head, fields)?;
    }
    Ok(summary)
}

/// The `timeout` of a Keep-Alive field, in seconds; a text that is no number says nothing (RFC 2068, 19.7.1.1).
fn kept_for(value: &[u8]) -> Option<Duration> {
    let parameter = list(value).find_map(|parameter| {
        let (name, value) = parameter.split_at_checked("timeout".len())?;
        let value = value.trim_ascii_start().strip_prefix(b"=")?;
        name.eq_ignore_ascii_case(b"timeout").then(|| value.trim_ascii())
    })?;
    let digits = parameter.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(parameter);
    let seconds: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_secs(u64::from(seconds)))
}

/// Settles what depends on where the field's line ends.
fn close_line(field: &mut Field, head: &[u8], line_end: usize) {
    if field.value.0 == field.value.1 {
        // An empty value stands nowhere in particular: put it where the line ends.
        let from = (field.name.1 + 2).min(line_end as u32);
        field.value = (from, from);
    }
    field.plain = field.value.0 == field.name.1 + 2
        && head.get(field.name.1 as usize + 1) == Some(&b' ')
        && field.value.1 as usize == line_end;
}

/// A tab beside a framing field's value is allowed by the grammar and read in two ways by what is deployed.
fn no_tabs(head: &[u8], fields: &[Field]) -> Result<(), Fault> {
    for (at, field) in fields.iter().enumerate() {
        if matches!(field.known, Known::TransferEncoding | Known::ContentLength) {
            let end = fields.get(at + 1).map_or(head.len() - 4, |next| next.name.0 as usize - 2);
            if memchr::memchr(b'\t', &head[field.name.1 as usize..end]).is_some() {
                return Err(Fault::Malformed("tab beside the value of a framing field"));
            }
        }
    }
    Ok(())
}

impl Summary {
    /// Takes the usual options of a Connection field; answers whether it has others, which nominate fields.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut others = false;
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !option.eq_ignore_ascii_case(b"te") {
                others = true;
            }
        }
        others
    }
}

/// Marks the fields that Connection names.
fn nominate(head: &[u8], fields: &mut [Field]) -> Result<(), Fault> {
    let mut seen = 0;
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for option in list(slice(head, fields[at].value)) {
            seen += 1;
            if seen > MAX_OPTIONS {
                return Err(Fault::Malformed("too many connection options"));
            }
            for field in fields.iter_mut() {
                if field.known.can_be_nominated() && slice(head, field.name).eq_ignore_ascii_case(option) {
                    field.hop = true;
                }
            }
        }
    }
    Ok(())
}

/// A Content-Length: digits, and as many as every peer can count (RFC 9110 section 8.6). A list of equal lengths, which
/// the RFC would let pass, is refused.
fn length(value: &[u8]) -> Result<u64, Fault> {
    const INVALID: Fault = Fault::Malformed("invalid Content-Length");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let number = value.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    if number > i64::MAX as u64 { Err(INVALID) } else { Ok(number) }
}

/// A Transfer-Encoding: `chunked`, alone. Other registered codings under chunked are understood and not implemented.
fn coding(value: &[u8]) -> Result<(), Fault> {
    const CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut members = list(value);
    let others_are_known = {
        let mut seen = false;
        let mut last: &[u8] = b"";
        let mut all = true;
        for member in members.by_ref() {
            if !last.is_empty() {
                seen = true;
                all &= CODINGS.iter().any(|coding| last.eq_ignore_ascii_case(coding));
            }
            last = member;
        }
        seen && all && last.eq_ignore_ascii_case(b"chunked")
    };
    Err(if others_are_known { Fault::Coding } else { Fault::Malformed("invalid Transfer-Encoding") })
}

/// Appends `name: value` and its line end to a head's buffer, and answers the field. Behind the head's own bytes, it
/// is as good as any that was parsed.
pub(super) fn append(buf: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Field {
    let start = buf.len() as u32;
    buf.extend_from_slice(name);
    buf.extend_from_slice(b": ");
    let middle = buf.len() as u32;
    buf.extend_from_slice(value);
    let end = buf.len() as u32;
    buf.extend_from_slice(b"\r\n");
    let known = classify(name);
    Field { name: (start, middle - 2), value: (middle, end), known, hop: known.is_hop(), plain: true }
}

/// Whether `name` and `value` may stand in a field line.
pub(crate) fn is_valid(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().copied().all(super::is_tchar)
        && value.iter().copied().all(super::is_value_byte)
        && super::trim_ows(value).len() == value.len()
}

/// Writes the fields that `keep` lets through, neighbours in one copy.
pub(super) fn write(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], mut keep: impl FnMut(&Field) -> bool) {
    let mut run: Range = (0, 0);
    for field in fields {
        if !keep(field) {
            continue;
        }
        if field.plain {
            if run.1 != field.name.0 {
                out.extend_from_slice(slice(buf, run));
                run.0 = field.name.0;
            }
            run.1 = field.value.1 + 2;
        } else {
            out.extend_from_slice(slice(buf, run));
            run = (0, 0);
            push(out, slice(buf, field.name), slice(buf, field.value));
        }
    }
    out.extend_from_slice(slice(buf, run));
}

/// Writes one field line.
pub(crate) fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_backend_could_take_for_ours_are_known() {
        for name in [
            "x_forwarded_for",
            "X_Forwarded_For",
            "X-Forwarded_For",
            "X_Forwarded-For",
            "x.forwarded.for",
            "x_forwarded_proto",
            "x_forwarded_host",
            "x_forwarded_port",
            "x-forwarded_port",
            "x_real_ip",
            "x_request_id",
            "transfer_encoding",
            "Transfer_Encoding",
            "content_length",
            "keep_alive",
            "proxy_connection",
            "proxy_authorization",
            "max_forwards",
            "http2_settings",
            "x_original_url",
            "x_rewrite_url",
            "x_client_ip",
            "cf_connecting_ip",
            "front_end_https",
            "Proxy",
            "proxy",
            "x_forwarded_client_cert",
            "x-forwarded-client.cert",
            "x-forwarded-client_cert",
            "client_ip",
            "Client.IP",
            "true_client-ip",
            "x_envoy_internal",
            "x_host",
            "Forwarded_For",
        ] {
            assert_eq!(classify(name.as_bytes()), Known::Alias, "{name}");
        }
        for name in [
            "X-Forwarded-Port",
            "x-forwarded-prefix",
            "X-Forwarded-Ssl",
            "X-Forwarded-Server",
            "x-forwarded",
            "x-forwarded-scheme",
            "x-forwarded-client-cert",
            "x-forwarded-by",
            "X-Original-URL",
            "X-Original-URI",
            "X-Original-Host",
            "X-Rewrite-URL",
            "Front-End-Https",
            "X-Url-Scheme",
            "X-Scheme",
            "X-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Cluster-Client-IP",
            "Client-IP",
            "Fly-Client-IP",
            "WL-Proxy-Client-IP",
            "X-Envoy-Original-Path",
            "X-Host",
            "X-Original-Forwarded-For",
            "X-Remote-Addr",
            "X-Azure-ClientIP",
            "Forwarded-Proto",
        ] {
            assert_eq!(classify(name.as_bytes()), Known::Claim, "{name}");
        }
        for name in [
            "x_a",
            "x_user",
            "x-forwarder-for",
            "user_agent",
            "accept_encoding",
            "x_forwardedfor",
            "proxyy",
            "myclient-ip",
            "ip",
        ] {
            assert_eq!(classify(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn explanations_agree_with_what_is_done() {
        use weir_snapshot::aliases::{Standing, standing};
        let names = "te via host date proxy proxyy cookie server expect upgrade trailer x-scheme x-real-ip forwarded \
             connection set-cookie keep-alive x-client-ip x-forwarded x-request-id max-forwards x-url-scheme \
             authorization x-rewrite-url content-length http2-settings x-original-url x-original-uri true-client-ip \
             x-forwarded-for x-original-host front-end-https x-forwarded-host proxy-connection cf-connecting-ip \
             fastly-client-ip transfer-encoding x-forwarded-proto proxy-authenticate proxy-authorization \
             x-cluster-client-ip x-forwarded-port x-forwarded-client-cert x-forwarded- x-forwardedfor x-own \
             user-agent accept-encoding content-type cf-ray x-original x-real-ips client-ip my-client-ip myclient-ip \
             x-envoy-internal x-envoy x-host x-http-host-override x-original-path x-original-method \
             x-original-forwarded-for x-original-remote-addr x-arr-ssl x-real-host x-real-port x-real-proto wl-proxy-ssl \
             x-remote-ip x-remote-addr x-originating-ip x-proxyuser-ip x-azure-clientip x-azure-socketip x-forward-for \
             forwarded-for forwarded-proto wl-proxy-client-ip x-forwarded-client-ip";
        for name in names.split_whitespace() {
            for name in [
                name.to_owned(),
                name.to_uppercase(),
                name.replace('-', "_"),
                name.replacen('-', "_", 1),
                name.replace('-', "."),
                format!("{name}_"),
            ] {
                let expected = match standing(&name) {
                    Standing::AliasOf(_) => Some(Known::Alias),
                    Standing::Claim => Some(Known::Claim),
                    Standing::Plain => None,
                };
                let done = Some(classify(name.as_bytes()));
                let done = done.filter(|known| matches!(known, Known::Alias | Known::Claim));
                assert_eq!(done, expected, "{name}");
            }
        }
    }

    #[test]
    fn every_known_field_is_found_whatever_its_case() {
        for (name, known) in [
            ("authorization", Known::Authorization),
            ("connection", Known::Connection),
            ("content-length", Known::ContentLength),
            ("cookie", Known::Cookie),
            ("date", Known::Date),
            ("expect", Known::Expect),
            ("forwarded", Known::Forwarded),
            ("host", Known::Host),
            ("http2-settings", Known::Http2Settings),
            ("keep-alive", Known::KeepAlive),
            ("max-forwards", Known::MaxForwards),
            ("proxy-authenticate", Known::ProxyAuthenticate),
            ("proxy-authorization", Known::ProxyAuthorization),
            ("proxy-connection", Known::ProxyConnection),
            ("server", Known::Server),
            ("set-cookie", Known::SetCookie),
            ("te", Known::Te),
            ("trailer", Known::Trailer),
            ("transfer-encoding", Known::TransferEncoding),
            ("upgrade", Known::Upgrade),
            ("via", Known::Via),
            ("x-forwarded-for", Known::XForwardedFor),
            ("x-forwarded-host", Known::XForwardedHost),
            ("x-forwarded-proto", Known::XForwardedProto),
            ("x-real-ip", Known::XRealIp),
            ("x-request-id", Known::XRequestId),
        ] {
            assert_eq!(classify(name.as_bytes()), known, "{name}");
            assert_eq!(classify(name.to_uppercase().as_bytes()), known, "{name}");
            let other = if name.starts_with("x-forwarded-") { Known::Claim } else { Known::Other };
            assert_eq!(classify(format!("{name}s").as_bytes()), other, "{name}s");
        }
    }

    #[test]
    fn a_length_is_digits_that_everyone_can_count() {
        assert_eq!(length(b"0"), Ok(0));
        assert_eq!(length(b"007"), Ok(7));
        assert_eq!(length(b"9223372036854775807"), Ok(i64::MAX as u64));
        for bad in [
            "",
            "+5",
            "-5",
            "5 5",
            "5, 5",
            "5,5",
            "0x5",
            "5.0",
            "1e3",
            "9223372036854775808",
            "18446744073709551617",
            "\u{663}",
        ] {
            assert!(length(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_transfer_coding_is_chunked_and_nothing_else() {
        assert_eq!(coding(b"Chunked"), Ok(()));
        assert_eq!(coding(b"gzip, chunked"), Err(Fault::Coding));
        for bad in [
            "",
            "gzip",
            "identity",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked, gzip",
            "xchunked",
            "chunkedx",
            "chunked;a=b",
            "\"chunked\"",
            "chunked chunked",
            "identity, chunked",
            "gzip, xchunked",
            "x, chunked",
        ] {
            assert!(matches!(coding(bad.as_bytes()), Err(Fault::Malformed(_))), "{bad:?}");
        }
    }
}
