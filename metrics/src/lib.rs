//! Encodes metrics in the format that the scraper accepts: OpenMetrics 1.0 or the Prometheus text format 0.0.4.
//!
//! `prometheus-client` writes only OpenMetrics. Scrapers that do not list it in `Accept` get the older format, which
//! differs in the names of counter families and in the last line.

use std::fmt::{Error, Write as _};

use prometheus_client::{encoding::text, registry::Registry};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Encoded metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Value for the header `Content-Type`.
    pub content_type: &'static str,
    /// The metrics.
    pub body: String,
}

/// Encodes the registry in the format that `accept`, the value of the request's `Accept` header, prefers. The text
/// format is the default, also for clients that accept neither.
///
/// # Errors
/// A metric cannot be encoded.
pub fn encode(registry: &Registry, accept: Option<&str>) -> Result<Encoded, Error> {
    let mut body = String::new();
    text::encode(&mut body, registry)?;
    if accept.is_some_and(prefers_openmetrics) {
        return Ok(Encoded { content_type: OPENMETRICS, body });
    }
    Ok(Encoded { content_type: TEXT, body: to_text(&body) })
}

/// Whether OpenMetrics is accepted and preferred at least as much as the text format (RFC 9110 section 12.5.1).
fn prefers_openmetrics(accept: &str) -> bool {
    let (mut openmetrics, mut text) = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1000, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
                openmetrics = openmetrics.max(quality);
            }
            "text/plain" | "text/*" => text = text.max(quality),
            _ => {}
        }
    }
    openmetrics > 0 && openmetrics >= text
}

/// A quality value in thousandths; 0 if it is malformed.
fn thousandths(weight: &str) -> u32 {
    let (whole, rest) = weight.split_once('.').unwrap_or((weight, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "0" => format!("{rest:0<3}").parse().unwrap_or(0),
        "1" => 1000,
        _ => 0,
    }
}

/// Converts OpenMetrics to the text format, in which a counter's family has the same name as its samples.
fn to_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 16);
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::ConstCounter, gauge::Gauge};

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::with_prefix("weir");
        registry.register("requests", "Requests", ConstCounter::new(3u64));
        registry.register("workers", "Threads", Gauge::<i64>::default());
        registry
    }

    #[test]
    fn counter_families_are_named_like_their_samples_in_the_text_format() {
        let encoded = encode(&registry(), None).unwrap();
        assert_eq!(encoded.content_type, TEXT);
        let expected = "# HELP weir_requests_total Requests.\n# TYPE weir_requests_total counter\nweir_requests_total 3\n\
                        # HELP weir_workers Threads.\n# TYPE weir_workers gauge\nweir_workers 0\n";
        assert_eq!(encoded.body, expected);
    }

    #[test]
    fn openmetrics_is_sent_to_clients_that_accept_it() {
        let encoded = encode(&registry(), Some("application/openmetrics-text")).unwrap();
        assert_eq!(encoded.content_type, OPENMETRICS);
        assert!(encoded.body.contains("# TYPE weir_requests counter\n") && encoded.body.ends_with("# EOF\n"));
    }

    #[test]
    fn the_format_follows_the_preference_of_the_client() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, openmetrics) in [
            (prometheus, true),
            ("application/openmetrics-text; version=1.0.0, text/plain;q=0.5", true),
            ("APPLICATION/OpenMetrics-Text;Q=0.1", true),
            ("application/openmetrics-text;version=\"1.0.0\"", true),
            ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;q=0.5", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.000,text/plain", false),
            ("application/openmetrics-text;q=nan", false),
            ("application/openmetrics-text;q=0.é", false),
            ("application/openmetrics-text;version=2.0.0", false),
            ("text/plain", false),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("application/json", false),
            ("", false),
            (";;;,,=;q", false),
        ] {
            assert_eq!(prefers_openmetrics(accept), openmetrics, "{accept}");
        }
    }
}
