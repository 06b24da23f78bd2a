//! The meaning of header fields for a proxy, found once while parsing.

use super::aliases::{CLIENT_IP, FAMILIES, reads_as};

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
pub(crate) fn kind_of(name: &[u8]) -> FieldKind {
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
    pub(crate) const fn is_hop(self) -> bool {
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
    pub(crate) const fn can_be_nominated(self) -> bool {
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
            assert_eq!(kind_of(name.as_bytes()), FieldKind::Alias, "{name}");
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
            assert_eq!(kind_of(name.as_bytes()), FieldKind::Claim, "{name}");
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
            assert_eq!(kind_of(name.as_bytes()), FieldKind::Other, "{name}");
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
                let done = Some(kind_of(name.as_bytes()));
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
            assert_eq!(kind_of(name.as_bytes()), kind, "{name}");
            assert_eq!(kind_of(name.to_uppercase().as_bytes()), kind, "{name}");
            let other = if name.starts_with("x-forwarded-") { FieldKind::Claim } else { FieldKind::Other };
            assert_eq!(kind_of(format!("{name}s").as_bytes()), other, "{name}s");
        }
    }
}
