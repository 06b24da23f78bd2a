//! Header fields as ranges in their head's buffer. Parsing also finds what each field means to a proxy.
//!
//! Order and case are kept. The rules that requests and responses share are here: line ends, the fields that Connection
//! names, and that a message has at most one length.

use std::time::Duration;

use super::{
    Range,
    aliases::{CLIENT_IP, FAMILIES, reads_as},
    list, slice,
};

/// Most options in Connection fields; each of them is compared with each field.
const MAX_OPTIONS: usize = 32;

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name as it was sent.
    pub name: Range,
    /// The value without the blanks around it.
    pub value: Range,
    /// The field's meaning for a proxy.
    pub kind: FieldKind,
    /// The field belongs to this hop, by its meaning or because Connection names it (RFC 9110 section 7.6.1). It is not
    /// forwarded unchanged.
    pub hop: bool,
    /// The field's bytes are exactly `Name: value\r\n`, so that it can be copied together with its neighbours.
    pub plain: bool,
}

/// Meaning of a field for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "most variants are names of fields")]
pub enum FieldKind {
    Other,
    /// A name that a CGI-style backend takes for a field that the proxy writes, removes or vouches for
    /// ([`crate::aliases`]), or for the variable HTTP_PROXY.
    Alias,
    /// A field in which proxies say where a request came from. It is forwarded only from trusted proxies.
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

/// Classifies a field by its name: by length first, so that most names cost at most one comparison.
pub(crate) fn classify(name: &[u8]) -> FieldKind {
    let candidates: &[(&[u8], FieldKind)] = match name.len() {
        2 => &[(b"te", FieldKind::Te)],
        3 => &[(b"via", FieldKind::Via)],
        4 => &[(b"host", FieldKind::Host), (b"date", FieldKind::Date)],
        // Many HTTP clients take their proxy from the variable HTTP_PROXY (CVE-2016-5385).
        5 => &[(b"proxy", FieldKind::Alias)],
        6 => &[
            (b"cookie", FieldKind::Cookie),
            (b"server", FieldKind::Server),
            (b"expect", FieldKind::Expect),
            (b"x-host", FieldKind::Claim),
        ],
        7 => &[(b"upgrade", FieldKind::Upgrade), (b"trailer", FieldKind::Trailer)],
        8 => &[(b"x-scheme", FieldKind::Claim)],
        9 => &[
            (b"x-real-ip", FieldKind::XRealIp),
            (b"forwarded", FieldKind::Forwarded),
            (b"x-arr-ssl", FieldKind::Claim),
        ],
        10 => &[
            (b"connection", FieldKind::Connection),
            (b"set-cookie", FieldKind::SetCookie),
            (b"keep-alive", FieldKind::KeepAlive),
        ],
        11 => &[
            (b"x-forwarded", FieldKind::Claim),
            (b"x-real-host", FieldKind::Claim),
            (b"x-real-port", FieldKind::Claim),
            (b"x-remote-ip", FieldKind::Claim),
        ],
        12 => &[
            (b"x-request-id", FieldKind::XRequestId),
            (b"max-forwards", FieldKind::MaxForwards),
            (b"x-url-scheme", FieldKind::Claim),
            (b"x-real-proto", FieldKind::Claim),
            (b"wl-proxy-ssl", FieldKind::Claim),
        ],
        13 => &[
            (b"authorization", FieldKind::Authorization),
            (b"x-rewrite-url", FieldKind::Claim),
            (b"x-remote-addr", FieldKind::Claim),
            (b"x-forward-for", FieldKind::Claim),
            (b"forwarded-for", FieldKind::Claim),
        ],
        14 => &[
            (b"content-length", FieldKind::ContentLength),
            (b"http2-settings", FieldKind::Http2Settings),
            (b"x-original-url", FieldKind::Claim),
            (b"x-original-uri", FieldKind::Claim),
            (b"x-proxyuser-ip", FieldKind::Claim),
        ],
        15 => &[
            (b"x-forwarded-for", FieldKind::XForwardedFor),
            (b"x-original-host", FieldKind::Claim),
            (b"x-original-path", FieldKind::Claim),
            (b"front-end-https", FieldKind::Claim),
            (b"forwarded-proto", FieldKind::Claim),
        ],
        16 => &[
            (b"x-forwarded-host", FieldKind::XForwardedHost),
            (b"proxy-connection", FieldKind::ProxyConnection),
            (b"cf-connecting-ip", FieldKind::Claim),
            (b"x-originating-ip", FieldKind::Claim),
            (b"x-azure-clientip", FieldKind::Claim),
            (b"x-azure-socketip", FieldKind::Claim),
        ],
        17 => &[
            (b"transfer-encoding", FieldKind::TransferEncoding),
            (b"x-forwarded-proto", FieldKind::XForwardedProto),
            (b"x-original-method", FieldKind::Claim),
        ],
        18 => &[(b"proxy-authenticate", FieldKind::ProxyAuthenticate)],
        19 => &[(b"proxy-authorization", FieldKind::ProxyAuthorization)],
        20 => &[(b"x-http-host-override", FieldKind::Claim)],
        22 => &[(b"x-original-remote-addr", FieldKind::Claim)],
        24 => &[(b"x-original-forwarded-for", FieldKind::Claim)],
        _ => &[],
    };
    // The first letter rules out most of the rest.
    let first = name.first().map(u8::to_ascii_lowercase);
    let found = candidates.iter().find(|(text, _)| text.first().copied() == first && reads_as(name, text));
    match found {
        Some((text, kind)) if name.eq_ignore_ascii_case(text) => *kind,
        Some(_) => FieldKind::Alias,
        None => claim(name, first),
    }
}

/// Only proxies may set the family `X-Forwarded-*` (-Port, -Prefix, -Ssl, -Server, -Scheme, -Client-Cert and more) and
/// names that end with `Client-IP`.
fn claim(name: &[u8], first: Option<u8>) -> FieldKind {
    let part = |own: &[u8], is_there: bool| match is_there {
        true if own.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') => {
            Some(FieldKind::Claim)
        }
        true => Some(FieldKind::Alias),
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
    family.or_else(client_ip).unwrap_or(FieldKind::Other)
}

impl FieldKind {
    /// Whether the field describes this connection, its framing or its proxy (RFC 9110 section 7.6.1).
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

    /// Whether Connection can remove the field. Fields that say where a message comes from and goes to cannot be
    /// removed: otherwise a client could remove what proxies vouch for.
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

/// Error in the fields of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The text says what is malformed.
    Malformed(&'static str),
    /// A transfer coding that is registered but not implemented.
    Coding,
}

/// Facts from all fields of a head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) host: Option<Range>,
    pub(crate) hosts: u32,
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    /// Idle timeout that the Keep-Alive field announces.
    pub(crate) kept_for: Option<Duration>,
    pub(crate) upgrade: bool,
    pub(crate) upgrade_option: bool,
    pub(crate) te_trailers: bool,
    pub(crate) date: bool,
    pub(crate) expects: u32,
}

/// Fills `fields` from httparse's result for `head`, the whole head, and checks what httparse does not check.
pub(crate) fn scan(
    head: &[u8],
    found: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Summary, FieldError> {
    // httparse accepts a bare LF as line end. LF can only be the last byte of a line, so checking before the start of
    // each name and at the end of the head finds them all.
    const BARE_LF: FieldError = FieldError::Malformed("line ends without CR");
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
            return Err(FieldError::Malformed("field name is not followed by a colon"));
        }
        if let Some(previous) = fields.last_mut() {
            close_line(previous, head, start - 2);
        }
        let value = if header.value.is_empty() {
            (name.1 + 1, name.1 + 1)
        } else {
            super::range_in(head, header.value)
        };
        let kind = classify(header.name.as_bytes());
        match kind {
            FieldKind::Other => {}
            FieldKind::Host => {
                summary.hosts += 1;
                summary.host = Some(value);
            }
            FieldKind::ContentLength => {
                if summary.content_length.is_some() {
                    return Err(FieldError::Malformed("several Content-Length fields"));
                }
                summary.content_length = Some(length(header.value)?);
            }
            FieldKind::TransferEncoding => {
                encodings += 1;
                if encodings > 1 {
                    return Err(FieldError::Malformed("several Transfer-Encoding fields"));
                }
                coding(header.value)?;
                summary.chunked = true;
            }
            FieldKind::Connection => options |= summary.connection(header.value),
            FieldKind::KeepAlive => summary.kept_for = kept_for(header.value).or(summary.kept_for),
            FieldKind::Upgrade => summary.upgrade = true,
            FieldKind::Te => {
                summary.te_trailers |= list(header.value).any(|code| code.eq_ignore_ascii_case(b"trailers"));
            }
            FieldKind::Date => summary.date = true,
            FieldKind::Expect => summary.expects += 1,
            _ => {}
        }
        fields.push(Field { name, value, kind, hop: kind.is_hop(), plain: false });
    }
    if let Some(last) = fields.last_mut() {
        close_line(last, head, head.len() - 4);
    }
    if summary.chunked && summary.content_length.is_some() {
        return Err(FieldError::Malformed("Content-Length together with Transfer-Encoding"));
    }
    if encodings > 0 || summary.content_length.is_some() {
        no_tabs(head, fields)?;
    }
    if options {
        nominate(head, fields)?;
    }
    Ok(summary)
}

/// The `timeout` of a Keep-Alive field, in seconds (RFC 2068 section 19.7.1.1). A value that is not a number is ignored.
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

/// Completes a field once the end of its line is known.
fn close_line(field: &mut Field, head: &[u8], line_end: usize) {
    if field.value.0 == field.value.1 {
        // httparse gives an empty value no position.
        let from = (field.name.1 + 2).min(line_end as u32);
        field.value = (from, from);
    }
    field.plain = field.value.0 == field.name.1 + 2
        && head.get(field.name.1 as usize + 1) == Some(&b' ')
        && field.value.1 as usize == line_end;
}

/// Rejects a tab beside a framing field's value: the grammar allows it, but deployed servers disagree about it.
fn no_tabs(head: &[u8], fields: &[Field]) -> Result<(), FieldError> {
    for (at, field) in fields.iter().enumerate() {
        if matches!(field.kind, FieldKind::TransferEncoding | FieldKind::ContentLength) {
            let end = fields.get(at + 1).map_or(head.len() - 4, |next| next.name.0 as usize - 2);
            if memchr::memchr(b'\t', &head[field.name.1 as usize..end]).is_some() {
                return Err(FieldError::Malformed("tab beside the value of a framing field"));
            }
        }
    }
    Ok(())
}

impl Summary {
    /// Takes the usual options of a Connection field. Returns whether there are others, which name fields.
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
fn nominate(head: &[u8], fields: &mut [Field]) -> Result<(), FieldError> {
    let mut seen = 0;
    for at in 0..fields.len() {
        if fields[at].kind != FieldKind::Connection {
            continue;
        }
        for option in list(slice(head, fields[at].value)) {
            seen += 1;
            if seen > MAX_OPTIONS {
                return Err(FieldError::Malformed("too many connection options"));
            }
            for field in fields.iter_mut() {
                if field.kind.can_be_nominated() && slice(head, field.name).eq_ignore_ascii_case(option) {
                    field.hop = true;
                }
            }
        }
    }
    Ok(())
}

/// Reads a Content-Length: only digits, up to the largest signed 64-bit number (RFC 9110 section 8.6). A list of equal
/// lengths, which the RFC permits, is rejected.
fn length(value: &[u8]) -> Result<u64, FieldError> {
    const INVALID: FieldError = FieldError::Malformed("invalid Content-Length");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let number = value.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    if number > i64::MAX as u64 { Err(INVALID) } else { Ok(number) }
}

/// Checks a Transfer-Encoding: only `chunked` is accepted. Other registered codings before `chunked` are not implemented.
fn coding(value: &[u8]) -> Result<(), FieldError> {
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
    Err(if others_are_known {
        FieldError::Coding
    } else {
        FieldError::Malformed("invalid Transfer-Encoding")
    })
}

/// Appends the line `name: value` to a head's buffer, after the bytes that were parsed, and returns the field.
pub(crate) fn append(buf: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Field {
    let start = buf.len() as u32;
    buf.extend_from_slice(name);
    buf.extend_from_slice(b": ");
    let middle = buf.len() as u32;
    buf.extend_from_slice(value);
    let end = buf.len() as u32;
    buf.extend_from_slice(b"\r\n");
    let kind = classify(name);
    Field { name: (start, middle - 2), value: (middle, end), kind, hop: kind.is_hop(), plain: true }
}

/// Whether `name` and `value` form a valid field line.
pub(crate) fn is_valid(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().copied().all(super::is_tchar)
        && value.iter().copied().all(super::is_value_byte)
        && super::trim_ows(value).len() == value.len()
}

/// Writes the fields that `keep` accepts; neighbours are copied together.
pub(crate) fn write(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], mut keep: impl FnMut(&Field) -> bool) {
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
pub fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
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
            assert_eq!(classify(name.as_bytes()), FieldKind::Alias, "{name}");
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
            assert_eq!(classify(name.as_bytes()), FieldKind::Claim, "{name}");
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
            assert_eq!(classify(name.as_bytes()), FieldKind::Other, "{name}");
        }
    }

    #[test]
    fn explanations_agree_with_what_is_done() {
        use crate::aliases::{NameKind, name_kind};
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
                let expected = match name_kind(&name) {
                    NameKind::AliasOf(_) => Some(FieldKind::Alias),
                    NameKind::Claim => Some(FieldKind::Claim),
                    NameKind::Plain => None,
                };
                let done = Some(classify(name.as_bytes()));
                let done = done.filter(|kind| matches!(kind, FieldKind::Alias | FieldKind::Claim));
                assert_eq!(done, expected, "{name}");
            }
        }
    }

    #[test]
    fn every_known_field_is_found_whatever_its_case() {
        for (name, kind) in [
            ("authorization", FieldKind::Authorization),
            ("connection", FieldKind::Connection),
            ("content-length", FieldKind::ContentLength),
            ("cookie", FieldKind::Cookie),
            ("date", FieldKind::Date),
            ("expect", FieldKind::Expect),
            ("forwarded", FieldKind::Forwarded),
            ("host", FieldKind::Host),
            ("http2-settings", FieldKind::Http2Settings),
            ("keep-alive", FieldKind::KeepAlive),
            ("max-forwards", FieldKind::MaxForwards),
            ("proxy-authenticate", FieldKind::ProxyAuthenticate),
            ("proxy-authorization", FieldKind::ProxyAuthorization),
            ("proxy-connection", FieldKind::ProxyConnection),
            ("server", FieldKind::Server),
            ("set-cookie", FieldKind::SetCookie),
            ("te", FieldKind::Te),
            ("trailer", FieldKind::Trailer),
            ("transfer-encoding", FieldKind::TransferEncoding),
            ("upgrade", FieldKind::Upgrade),
            ("via", FieldKind::Via),
            ("x-forwarded-for", FieldKind::XForwardedFor),
            ("x-forwarded-host", FieldKind::XForwardedHost),
            ("x-forwarded-proto", FieldKind::XForwardedProto),
            ("x-real-ip", FieldKind::XRealIp),
            ("x-request-id", FieldKind::XRequestId),
        ] {
            assert_eq!(classify(name.as_bytes()), kind, "{name}");
            assert_eq!(classify(name.to_uppercase().as_bytes()), kind, "{name}");
            let other = if name.starts_with("x-forwarded-") { FieldKind::Claim } else { FieldKind::Other };
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
        assert_eq!(coding(b"gzip, chunked"), Err(FieldError::Coding));
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
            assert!(matches!(coding(bad.as_bytes()), Err(FieldError::Malformed(_))), "{bad:?}");
        }
    }
}
